import { sample, shuffled } from '../draw.js'
import { type Draft, generate, itemRandom, type Next, type Task, type TaskOptions } from '../task.js'
import { ADJECTIVES, NOUNS, VERBS } from './words.js'

/** How many words are common, and how often they and the others stand in the list. */
const COMMON = 10
interface Counts {
  common: number
  others: number
}

/** RULER takes fewer repetitions below 4096 tokens, in the list as in the worked example. */
const SHORT = { list: { common: 6, others: 1 }, example: { common: 3, others: 1, words: 20 } }
const LONG = { list: { common: 30, others: 3 }, example: { common: 10, others: 3, words: 40 } }

const SINGLE_WORDS: readonly string[] = [...ADJECTIVES, ...NOUNS, ...VERBS]

/** For lists that are longer than single words last. */
const PAIRS: readonly string[] = ADJECTIVES.flatMap((adjective) => NOUNS.map((noun) => `${adjective}-${noun}`))

const numbered = (words: readonly string[]) => words.map((word, i) => `${i + 1}. ${word}`).join(' ')

function list(words: readonly string[], { common, others }: Counts, next: Next): Draft {
  const answers = words.slice(0, COMMON)
  const all = words.flatMap((word, i) => Array<string>(i < COMMON ? common : others).fill(word))
  return {
    context: `Below is a numbered list of words, some of which stand in it more often than others. Remember the most frequent ones.\n${numbered(shuffled(all, next))}`,
    question: `\nQuestion: Which ${COMMON} words are the most frequent in the list above? Answer: The ${COMMON} most frequent words in the list are:`,
    answers,
  }
}

function draft(size: number, next: Next, vocabulary: readonly string[], tokens: number): Draft {
  const { list: counts, example } = tokens < 4096 ? SHORT : LONG
  const words = sample(vocabulary, example.words + size, next)
  const shown = list(words.slice(0, example.words), example, next)
  const asked = list(words.slice(example.words), counts, next)
  return { ...asked, context: `${shown.context}${shown.question} ${numbered(shown.answers)}\n${asked.context}` }
}

/** Single words where they can fill the length, else pairs of words: one kind for all items of a length. */
function vocabularyFor({ tokens, count, ...options }: TaskOptions): readonly string[] {
  const most = SINGLE_WORDS.length - LONG.example.words
  const { context, question } = draft(most, itemRandom('cwe', { tokens, count, ...options }), SINGLE_WORDS, tokens)
  return count(context + question) >= tokens ? SINGLE_WORDS : PAIRS
}

/**
 * RULER's common words extraction behind one worked example (arXiv 2404.06654, section 3): ten words stand in a shuffled list ten times
 * (six times below 4096 tokens) as often as all others.
 */
export const commonWords: Task = {
  name: 'cwe',
  summary: 'the ten most frequent words of a list',
  generate: (options) => {
    const vocabulary = vocabularyFor(options)
    const plan = {
      name: 'cwe',
      metric: 'containsAll',
      maxTokens: 120,
      least: COMMON + 1,
      most: vocabulary.length - LONG.example.words,
      draft: (size: number, next: Next) => draft(size, next, vocabulary, options.tokens),
    } as const
    return generate(plan, options)
  },
}
