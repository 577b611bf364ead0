import { SENTENCES } from '../../../demo/prose.js'
import { shuffled, whole } from '../draw.js'
import type { Next } from '../task.js'

/** The line that a `noise` haystack repeats. */
export const NOISE = 'The snow is white. The coal is black. The road is long. On we go. Up the hill and down again.'

/** Prose of `size` sentences: shuffled rounds of the demo's, which hold no numbers and no secrets. */
export function essay(size: number, next: Next): string[] {
  const found: string[] = []
  while (found.length < size) found.push(...shuffled(SENTENCES, next))
  return found.slice(0, size)
}

/** The lines with the facts between them, in the order given, each at a random place of its own. Needs as many lines as facts. */
export function hide(facts: readonly string[], lines: readonly string[], next: Next): string[] {
  const places = new Set<number>()
  while (places.size < facts.length) places.add(whole(next, 0, lines.length))
  const sorted = [...places].sort((a, b) => a - b)
  const before = facts.flatMap((fact, i) => [...lines.slice(sorted[i - 1] ?? 0, sorted[i]), fact])
  return [...before, ...lines.slice(sorted.at(-1) ?? 0)]
}
