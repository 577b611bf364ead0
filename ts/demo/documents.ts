import { PLACES, SENTENCES, WORDS } from './prose.js'

/** What the demo hides. */
export type Needle = 'phrase' | 'serial'

/** Everything that a document can hide. */
export type Fact = Needle | 'digits'

/** What a needle asks, and how it stands in the text. */
export const NEEDLES: Record<Fact, (place: string) => string> = {
  digits: (place) => `One of the special magic numbers for ${place} is:`,
  phrase: (place) => `The secret phrase for ${place} is:`,
  serial: (place) => `The serial number of ${place} is:`,
}

export interface Question<F extends Fact = Needle> {
  needle: F
  /** What is appended to the document. */
  prompt: string
  answer: string
}

export interface Document<F extends Fact = Needle> {
  text: string
  questions: Question<F>[]
}

/** A small seeded generator (mulberry32): the same documents everywhere, for ever. */
export function random(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let x = Math.imul(state ^ (state >>> 15), state | 1)
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61)
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32
  }
}

function shuffled<T>(items: readonly T[], next: () => number): T[] {
  const out = [...items]
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1))
    const swap = out[i] as T
    out[i] = out[j] as T
    out[j] = swap
  }
  return out
}

const answers: Record<Fact, (next: () => number) => string> = {
  digits: (next) => String(10_000 + Math.floor(next() * 90_000)),
  phrase: (next) => shuffled(WORDS, next).slice(0, 3).join(' '),
  serial: (next) => Array.from({ length: 4 }, () => 100 + Math.floor(next() * 900)).join('-'),
}

/**
 * A document of about `tokens` tokens (as `count` counts them) with one needle for each entry of `needles`, spread over the
 * whole text in random order, and the question for each.
 */
export function makeDocument<F extends Fact>(
  seed: number,
  tokens: number,
  needles: readonly F[],
  count: (text: string) => number,
): Document<F> {
  const next = random(seed)
  const places = shuffled(PLACES, next)
  const questions = needles.map((needle, i): Question<F> => {
    const place = places[i % places.length] as string
    return { needle, prompt: `\n\n${NEEDLES[needle](place)}`, answer: answers[needle](next) }
  })
  const facts = questions.map(({ prompt, answer }) => `${prompt.trim()} ${answer}.`)
  let left = tokens - facts.reduce((sum, fact) => sum + count(` ${fact}`), 0)
  const filler: string[] = []
  for (let deck: string[] = []; left > 0; ) {
    if (deck.length === 0) deck = shuffled(SENTENCES, next)
    const sentence = deck.pop() as string
    left -= count(` ${sentence}`)
    filler.push(sentence)
  }
  // One needle in each of as many equal stretches of the text, so that depths are spread but not regular.
  const stretch = filler.length / facts.length
  shuffled(facts, next).forEach((fact, i) => {
    filler.splice(Math.floor((i + next()) * stretch) + i, 0, fact)
  })
  return { text: filler.join(' '), questions }
}
