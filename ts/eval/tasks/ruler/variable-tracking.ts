import { distinct, letters, whole } from '../draw.js'
import { generate, type Next, type Task } from '../task.js'
import { hide, NOISE } from './haystack.js'

const HOPS = 4
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'

/** Lines of the worked example in front. */
const EXAMPLE_LINES = 5

/** Variables that are assigned to one another in a chain; names that the haystack holds in any case are left out. */
function chain(lines: number, letterCount: number, value: string, next: Next) {
  const noise = NOISE.toUpperCase()
  const name = (next: Next): string => {
    const drawn = letters(next, ALPHABET, letterCount)
    return noise.includes(drawn) ? name(next) : drawn
  }
  const names = distinct(HOPS + 1, next, name)
  const facts = names.map((variable, i) => `VAR ${variable} = ${i === 0 ? value : `VAR ${names[i - 1]}`}`)
  const text = hide(facts, Array<string>(lines).fill(NOISE), next).join('\n')
  const asked = `are assigned the value ${value}`
  return {
    names,
    context: `Follow the variable assignments that the text below hides.\n\n${text}`,
    question: `\nQuestion: Which variables ${asked} in the text above? Answer: By the assignments in the text above, ${names.length} variables ${asked}:`,
  }
}

/** RULER's variable tracking with one chain of four hops in noise, behind one worked example (arXiv 2404.06654, section 3). */
export const variableTracking: Task = {
  name: 'vt',
  summary: 'which variables hold a value, through a chain of assignments',
  generate: (options) => {
    const draft = (size: number, next: Next) => {
      const [value, other] = distinct(2, next, (next) => String(whole(next, 10_000, 99_999))) as [string, string]
      const example = chain(EXAMPLE_LINES, 3, other, next)
      const { names, context, question } = chain(size, 5, value, next)
      const shown = `${example.context}${example.question} ${example.names.join(' ')}`
      return { context: `${shown}\n\n${context}`, question, answers: names }
    }
    return generate({ name: 'vt', metric: 'containsAll', maxTokens: 30, least: HOPS + 1, draft }, options)
  },
}
