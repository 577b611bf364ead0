import type { Row } from './row.js'

/** The letters of multiple choice. */
export const LETTERS = ['A', 'B', 'C', 'D']

/** The four options of a row, one a line. */
export function options(row: Row): string {
  const texts = row.strings('options')
  if (texts.length !== LETTERS.length) throw row.refuse(`"options" has ${texts.length} entries, expected 4`)
  return LETTERS.map((letter, i) => `${letter}. ${texts[i]}`).join('\n')
}

/** The letter of the right option: files name the option, the letter, or both. */
export function rightLetter(row: Row): string {
  const texts = row.strings('options')
  const answers = row.answers('answer')
  const named = answers.map((answer) => LETTERS[texts.indexOf(answer)] ?? answer).find((it) => LETTERS.includes(it))
  if (named === undefined) throw row.refuse('"answer" is none of the options')
  return named
}
