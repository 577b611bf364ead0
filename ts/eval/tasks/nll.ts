import { HeadwiseError } from '../../errors.js'
import { readText } from '../datasets/row.js'
import type { Item } from '../item.js'
import { largest, type Task, type TaskOptions } from './task.js'

/** Tokens of the text whose loss is measured. */
const CONTINUATION = 128

/** A text in pieces that together are the text: a word with the space before it, long words in several. */
function pieces(text: string): string[] {
  return text.match(/\s*\S{1,12}/gu) ?? []
}

/**
 * How well a text is predicted behind its compressed past: the file is cut into contexts of the length asked for, each with the 128 tokens
 * after it. Items follow each other in the text, so the seed changes nothing.
 */
export const nll: Task = {
  name: 'nll',
  summary: 'the loss of the next 128 tokens of a text file',
  generate: ({ tokens, items, count, data }: TaskOptions) => {
    if (data === undefined) throw new HeadwiseError('InvalidArgument', 'nll needs --data: a text file', { task: 'nll' })
    const all = pieces(readText(data))
    let from = 0
    const take = (limit: number): string => {
      const text = (size: number) => all.slice(from, from + size).join('')
      const size = largest(0, all.length - from, limit, (size) => count(text(size))) ?? 0
      // The end of the file is only taken whole by accident; what was found there does not fill the length.
      if (size === 0 || size === all.length - from) throw tooShort(data, items, tokens)
      const taken = text(size)
      from += size
      return taken
    }
    return Array.from({ length: items }, (_, i): Item => {
      const context = take(tokens)
      return { id: `nll-${tokens}-${i}`, task: 'nll', context, turns: [], continuation: take(CONTINUATION) }
    })
  },
}

function tooShort(path: string, items: number, tokens: number): HeadwiseError {
  const message = `${path}: too short for ${items} items of ${tokens} + ${CONTINUATION} tokens`
  return new HeadwiseError('InvalidArgument', message, { path, items, tokens })
}
