import { distinct, letters, shuffled } from '../draw.js'
import { type Draft, generate, type Next, type Task } from '../task.js'

/** Words are drawn by Zipf's law with exponent 2, whose sum over all ranks this is. */
const ZETA = Math.PI ** 2 / 6

/** The most frequent "word" is noise, the three after it are asked for. */
const NOISE = '...'
const ASKED = 3

const times = (rank: number, size: number) => Math.floor(size / (rank ** 2 * ZETA))

/** From here on every rank that is asked for is more frequent than the first that is not. */
const LEAST = Array.from({ length: 1000 }, (_, i) => i).findLastIndex(
  (size) => times(ASKED + 1, size) <= times(ASKED + 2, size),
)

function draft(size: number, next: Next, tokens: number): Draft {
  const coded = distinct(Math.max(Math.floor(tokens / 50), ASKED + 2), next, (next) =>
    letters(next, 'abcdefghijklmnopqrstuvwxyz', 6),
  )
  const text = [NOISE, ...coded].flatMap((word, i) => Array<string>(times(i + 1, size)).fill(word))
  return {
    context: `Count how often each coded word stands in the coded text below, and find the ${ASKED} most frequent ones. ${shuffled(text, next).join(' ')}`,
    question: `\nQuestion: Which ${ASKED} coded words are the most frequent in the text above? Do not count the dots '${NOISE}' and do not explain. Answer: The ${ASKED} most frequent coded words in the text above are:`,
    answers: coded.slice(0, ASKED),
  }
}

/** RULER's frequent words extraction: random words of six letters whose frequencies follow a Zeta distribution (arXiv 2404.06654, section 3). */
export const frequentWords: Task = {
  name: 'fwe',
  summary: 'the three most frequent words of a coded text',
  generate: (options) =>
    generate(
      {
        name: 'fwe',
        metric: 'containsAll',
        maxTokens: 50,
        least: LEAST + 1,
        draft: (size, next) => draft(size, next, options.tokens),
      },
      options,
    ),
}
