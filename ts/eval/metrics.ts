import type { Metric } from './item.js'
import { indelRatio, rougeLSummary } from './metrics/sequences.js'
import { isUnspaced, normalised, segmented, words } from './metrics/words.js'

/** How well a text meets one right answer. */
type Judge = (text: string, answer: string, classes: readonly string[]) => number

/** What is best over the right answers. `containsAll` looks at all of them instead. */
const JUDGES: Record<Exclude<Metric, 'containsAll'>, Judge> = {
  contains: (text, answer) => Number(answer !== '' && text.includes(answer)),
  containsAny: (text, answer) => Number(containsIgnoringCase(text, answer)),
  f1,
  rougeL,
  exactMatch,
  editSimilarity,
  classification,
  retrieval: shareOfNumbers,
  count: shareOfNumbers,
}

/**
 * What an answer is worth, from 0 to 1.
 *
 * - `contains`: a right answer stands in the text, in this case.
 * - `containsAny`, `containsAll`: RULER's `string_match_part` and `string_match_all` (github.com/NVIDIA/RULER): whether one of the
 *   answers, or the share of the answers that stand in the text, in any case.
 * - `f1`, `rougeL`, `editSimilarity`, `classification`, `retrieval`, `count`: LongBench's metrics (github.com/THUDM/LongBench).
 * - `exactMatch`: equal as SQuAD compares.
 */
export function score(
  metric: Metric,
  text: string,
  answers: readonly string[],
  classes: readonly string[] = [],
): number {
  if (answers.length === 0) return 0
  if (metric === 'containsAll') {
    return answers.filter((answer) => containsIgnoringCase(text, answer)).length / answers.length
  }
  return Math.max(...answers.map((answer) => JUDGES[metric](text, answer, classes)))
}

function containsIgnoringCase(text: string, answer: string): boolean {
  return answer !== '' && text.toLowerCase().includes(answer.toLowerCase())
}

/** The harmonic mean of precision and recall over words, each as often as it occurs. */
function f1(text: string, answer: string): number {
  const unspaced = isUnspaced(answer)
  const [mine, theirs] = [words(text, unspaced), words(answer, unspaced)]
  const left = new Map<string, number>()
  for (const word of theirs) left.set(word, (left.get(word) ?? 0) + 1)
  let same = 0
  for (const word of mine) {
    const held = left.get(word) ?? 0
    if (held > 0) same++
    left.set(word, held - 1)
  }
  return same === 0 ? 0 : (2 * same) / (mine.length + theirs.length)
}

function rougeL(text: string, answer: string): number {
  if (!isUnspaced(answer)) return rougeLSummary(text, answer)
  return rougeLSummary(segmented(text).join(' '), segmented(answer).join(' '))
}

function exactMatch(text: string, answer: string): number {
  const expected = normalised(answer)
  // "A", as in multiple choice, is an article and leaves nothing to compare.
  return Number(expected === '' ? text.trim() === answer.trim() : normalised(text) === expected)
}

/** LongBench's `code_sim_score`: the first line that is not a comment or a fence, compared with the right next line; to the percent. */
function editSimilarity(text: string, answer: string): number {
  const line = text
    .replace(/^\n+/, '')
    .split('\n')
    .find((line) => !/[`#]|\/\//.test(line))
  if (line === answer) return 1
  return line ? Math.round(100 * indelRatio(line, answer)) / 100 : 0
}

/** The classes that the text names, less those that are only a part of the right one; a right one among several is worth its share. */
function classification(text: string, answer: string, classes: readonly string[]): number {
  const named = classes.filter((name) => text.includes(name) && (name === answer || !answer.includes(name)))
  return named.includes(answer) ? 1 / named.length : 0
}

/** The share of the numbers in the text that are the number of the answer: "Paragraph 7", "段落7" or "7". */
function shareOfNumbers(text: string, answer: string): number {
  const expected = /\d+/.exec(answer)?.[0]
  const numbers = text.match(/\d+/g) ?? []
  return numbers.length === 0 ? 0 : numbers.filter((number) => number === expected).length / numbers.length
}
