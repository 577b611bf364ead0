import { HeadwiseError } from '../errors.js'

/** The only positional argument. */
export function one(positionals: readonly string[], name: string): string {
  const [first, ...more] = positionals
  if (first === undefined || more.length > 0) {
    const message = first === undefined ? `${name} is missing (--help tells more)` : `unexpected: ${more.join(' ')}`
    throw new HeadwiseError('InvalidArgument', message, { name })
  }
  return first
}
