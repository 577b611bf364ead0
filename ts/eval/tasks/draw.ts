import type { Next } from './task.js'

/** A whole number in `from..to`. */
export function whole(next: Next, from: number, to: number): number {
  return from + Math.floor(next() * (to - from + 1))
}

/** `size` different entries in random order. */
export function sample<T>(items: readonly T[], size: number, next: Next): T[] {
  const pool = [...items]
  for (let i = 0; i < size; i++) {
    const j = whole(next, i, pool.length - 1)
    const swap = pool[i] as T
    pool[i] = pool[j] as T
    pool[j] = swap
  }
  return pool.slice(0, size)
}

export function shuffled<T>(items: readonly T[], next: Next): T[] {
  return sample(items, items.length, next)
}

/** `size` texts that are all different. */
export function distinct(
  size: number,
  next: Next,
  draw: (next: Next) => string,
  taken: readonly string[] = [],
): string[] {
  const found = new Set(taken)
  while (found.size < taken.length + size) found.add(draw(next))
  return [...found].slice(taken.length)
}

/** Letters of an alphabet in random order, each as often as it comes. */
export function letters(next: Next, alphabet: string, length: number): string {
  return Array.from({ length }, () => alphabet[whole(next, 0, alphabet.length - 1)]).join('')
}
