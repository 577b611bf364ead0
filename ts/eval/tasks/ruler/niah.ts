import { distinct, letters, sample, shuffled, whole } from '../draw.js'
import { type Draft, generate, type Next, type Task } from '../task.js'
import { essay, hide, NOISE } from './haystack.js'
import { ADJECTIVES, NOUNS } from './words.js'

type Kind = 'words' | 'numbers' | 'uuids'

/** One of RULER's needle tasks, as `scripts/synthetic.yaml` of github.com/NVIDIA/RULER sets it up. */
export interface Needles {
  haystack: 'noise' | 'essay' | 'needle'
  keys: 'words' | 'uuids'
  values: 'numbers' | 'uuids'
  /** How many keys there are, how many values each has, and how many keys are asked for. */
  numbers: { keys: number; values: number; queries: number }
}

const DRAW: Record<Kind, (next: Next) => string> = {
  words: (next) => `${ADJECTIVES[whole(next, 0, ADJECTIVES.length - 1)]}-${NOUNS[whole(next, 0, NOUNS.length - 1)]}`,
  numbers: (next) => String(whole(next, 1_000_000, 9_999_999)),
  uuids: (next) => {
    const hex = (length: number) => letters(next, '0123456789abcdef', length)
    return `${hex(8)}-${hex(4)}-4${hex(3)}-${letters(next, '89ab', 1)}${hex(3)}-${hex(12)}`
  },
}

/** A needle-in-a-haystack task of RULER (arXiv 2404.06654, section 3). */
export function needleTask(name: string, summary: string, { haystack, keys, values, numbers }: Needles): Task {
  const needle = (key: string, value: string) => `One of the special magic ${values} for ${key} is: ${value}.`

  const draft = (size: number, next: Next): Draft => {
    const asked = distinct(numbers.keys, next, DRAW[keys])
    const told = distinct(numbers.keys * numbers.values, next, DRAW[values])
    const valuesOf = (key: string) => {
      const at = asked.indexOf(key) * numbers.values
      return told.slice(at, at + numbers.values)
    }
    const queries = sample(asked, numbers.queries, next)
    const needles = shuffled(
      asked.flatMap((key) => valuesOf(key).map((value) => needle(key, value))),
      next,
    )
    const others = () => {
      const otherKeys = distinct(size, next, DRAW[keys], asked)
      return distinct(size, next, DRAW[values], told).map((value, i) => needle(otherKeys[i] as string, value))
    }
    const lines =
      haystack === 'essay' ? essay(size, next) : haystack === 'noise' ? Array<string>(size).fill(NOISE) : others()
    const several = numbers.queries * numbers.values > 1
    const kind = several ? values : values.slice(0, -1)
    const text = hide(needles, lines, next).join(haystack === 'essay' ? ' ' : '\n')
    const about = `special magic ${kind} for ${enumerated(queries)} in the text above`
    return {
      context: `${introduction(kind, several)}\n${text}`,
      question: `\n${several ? 'What are all the' : 'What is the'} ${about}? The ${about} ${several ? 'are' : 'is'}`,
      answers: queries.flatMap(valuesOf),
    }
  }

  // Beyond three quarters of all pairs of words, drawing one that is not there yet takes long.
  const most =
    haystack === 'needle' && keys === 'words' ? Math.floor(0.75 * ADJECTIVES.length * NOUNS.length) : undefined
  const least = numbers.keys * numbers.values
  const plan = { name, metric: 'containsAll', maxTokens: 128, least, ...(most && { most }), draft } as const
  return { name, summary, generate: (options) => generate(plan, options) }
}

function introduction(kind: string, several: boolean): string {
  return several
    ? `The text below hides some special magic ${kind}. Remember them: you will be asked for them.`
    : `The text below hides a special magic ${kind}. Remember it: you will be asked for it.`
}

function enumerated(names: readonly string[]): string {
  return names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')}, and ${names.at(-1)}`
}
