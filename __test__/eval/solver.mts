/**
 * Answers RULER's prompts by reading them: an oracle that shares nothing with the generators but the English of the prompts.
 *
 * `prompt` is context and question as the model gets them.
 */
export function solve(task: string, prompt: string): string[] {
  if (task.startsWith('niah')) return needles(prompt)
  if (task === 'vt') return chain(prompt)
  if (task === 'cwe') return commonWords(prompt)
  if (task === 'fwe') return codedWords(prompt)
  if (task === 'qa_1') return [river(prompt)]
  if (task === 'qa_2') return [last(prompt, new RegExp(`The ${river(prompt)} ends in the (\\w+)`, 'g'))[1] as string]
  throw new Error(`no solver for ${task}`)
}

/** The river of the town that the question names, from the documents of the spec. */
function river(prompt: string): string {
  const town = last(prompt, /Question: Which (?:river does|sea does the river of) (\w+)/g)[1]
  return last(prompt, new RegExp(`\\b${town} lies on the (\\w+)`, 'g'))[1] as string
}

/** The values of every key that the question names, in the order of the question, then of the text. */
function needles(prompt: string): string[] {
  const asked = last(prompt, /special magic \w+ for ([^?]+?) in the text above/g)[1] as string
  const keys = asked.split(/,? and |, /)
  const hidden = [...prompt.matchAll(/special magic \w+ for (\S+) is: ([\w-]+)\./g)]
  return keys.flatMap((key) => hidden.filter((needle) => needle[1] === key).map((needle) => needle[2] as string))
}

/** The variables that hold the value asked for, directly or by way of others. */
function chain(prompt: string): string[] {
  const value = last(prompt, /assigned the value (\d+)/g)[1] as string
  const holds = new Map<string, string>()
  for (const [, name, from, number] of lastSection(prompt).matchAll(/VAR (\w+) = (?:VAR (\w+)|(\d+))/g)) {
    holds.set(name as string, from === undefined ? (number as string) : (holds.get(from) as string))
  }
  return [...holds].filter(([, held]) => held === value).map(([name]) => name)
}

/** The ten most frequent words of the last numbered list. */
function commonWords(prompt: string): string[] {
  const list = lastSection(prompt)
  return mostFrequent(
    [...list.matchAll(/\b\d+\. ([\w-]+)/g)].map((entry) => entry[1] as string),
    10,
  )
}

/** The three most frequent coded words; the instruction and the question are on either side of the text. */
function codedWords(prompt: string): string[] {
  const text = prompt.slice(prompt.indexOf(' ones.') + 6, prompt.indexOf('\nQuestion:'))
  return mostFrequent(text.match(/\w+/g) ?? [], 3)
}

/** What stands before the last question and behind the answer of the worked example, if there is one. */
function lastSection(prompt: string): string {
  const [, before] = last(prompt, /(?:^|Answer: [^\n]*\n)((?:(?!\nQuestion:).)*)\nQuestion:/gs)
  return before as string
}

/** Throws where the next word is as frequent as the last one that counts: such a prompt would have no answer. */
function mostFrequent(words: readonly string[], count: number): string[] {
  const counts = new Map<string, number>()
  for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1)
  const ranked = [...counts].sort(([, a], [, b]) => b - a)
  const [least, next] = [ranked[count - 1], ranked[count]]
  if (!least || least[1] === next?.[1])
    throw new Error(`no ${count} most frequent words: ${ranked.slice(0, count + 1)}`)
  return ranked.slice(0, count).map(([word]) => word)
}

function last(text: string, pattern: RegExp): RegExpMatchArray {
  const found = [...text.matchAll(pattern)].at(-1)
  if (!found) throw new Error(`${pattern} is not in the prompt`)
  return found
}
