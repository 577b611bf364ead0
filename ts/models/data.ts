import { HeadwiseError } from '../errors.js'
import { createContext } from './context.js'
import { resolveHubData } from './hub.js'
import { parseReference } from './reference.js'
import type { ResolveOptions } from './types.js'

const HUB_DATA = 'hf:datasets/'

/**
 * Makes a data file available on this machine and says where it is: a path, or `hf:datasets/org/name[@revision]:file` for a file of a data
 * set of the hub, through the cache that its other clients share.
 */
export async function resolveData(text: string, options: ResolveOptions = {}): Promise<string> {
  if (!text.startsWith(HUB_DATA)) return text
  const reference = parseReference(`hf:${text.slice(HUB_DATA.length)}`)
  if (reference.kind !== 'hub' || reference.select === undefined) {
    const expected = 'hf:datasets/org/name[@revision]:file'
    throw new HeadwiseError('InvalidReference', `${text}: expected ${expected}`, { reference: text, expected })
  }
  const { select, ...repo } = reference
  return resolveHubData(createContext(options), repo, select)
}
