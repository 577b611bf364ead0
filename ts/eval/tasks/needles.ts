import { type Document, type Fact, makeDocument, NEEDLES } from '../../demo/documents.js'
import { PLACES } from '../../demo/prose.js'
import type { Item } from '../item.js'
import { sample, whole } from './draw.js'
import { essay } from './ruler/haystack.js'
import { generate, itemRandom, type Next, type Plan, type Task, type TaskOptions, tooSmall } from './task.js'

/**
 * Facts of one kind in a document of the demo's prose: two in each, so that each is the other's distractor. Both are asked for, over the
 * same context.
 */
function factTask(fact: Fact, maxTokens: number, summary: string): Task {
  const document = (options: TaskOptions, index: number): Document<Fact> => {
    const { tokens, count } = options
    const next = itemRandom(fact, options, index)
    for (let seed = whole(next, 0, 0xffffffff), budget = tokens; budget > 0; ) {
      const made = makeDocument(seed, budget, [fact, fact], count)
      const [first, second] = made.questions.map(({ answer }) => answer)
      const over = Math.max(...made.questions.map(({ prompt }) => count(made.text + prompt))) - tokens
      if (first === second) seed = whole(next, 0, 0xffffffff)
      else if (over <= 0) return made
      else budget -= over
    }
    throw tooSmall(fact, tokens)
  }
  const generate = (options: TaskOptions): Item[] => {
    const documents = Array.from({ length: Math.ceil(options.items / 2) }, (_, i) => document(options, i))
    const items = documents.flatMap(({ text, questions }) =>
      questions.map(({ prompt, answer }): Omit<Item, 'id'> => {
        const turns = [{ question: prompt, answers: [answer] }]
        return { task: fact, context: text, turns, metric: 'contains', maxTokens, stop: ['\n'] }
      }),
    )
    return items.slice(0, options.items).map((item, i) => ({ id: `${fact}-${options.tokens}-${i}`, ...item }))
  }
  return { name: fact, summary, generate }
}

/** Depths of the grid, in percent of the sentences before the needle. */
export const DEPTHS: readonly number[] = Array.from({ length: 11 }, (_, i) => 10 * i)

/** The needle-in-a-haystack grid (github.com/gkamradt/LLMTest_NeedleInAHaystack): item after item one depth deeper, round and round. */
const grid: Task = {
  name: 'niah_grid',
  summary: `a number in prose at each of ${DEPTHS.length} depths, item by item`,
  generate: (options) => {
    const depth = (index: number) => DEPTHS[index % DEPTHS.length] as number
    const plan: Plan = {
      name: 'niah_grid',
      metric: 'contains',
      maxTokens: 12,
      stop: ['\n'],
      draft: (size, next: Next, index) => {
        const fact = NEEDLES.digits(sample(PLACES, 1, next)[0] as string)
        const answer = String(whole(next, 10_000, 99_999))
        const sentences = essay(size, next)
        sentences.splice(Math.round((depth(index) / 100) * size), 0, `${fact} ${answer}.`)
        return { context: sentences.join(' '), question: `\n\n${fact}`, answers: [answer] }
      },
    }
    const round = (index: number) => Math.floor(index / DEPTHS.length)
    return generate(plan, options).map((item, i) => ({
      ...item,
      id: `niah_grid-${options.tokens}-depth${depth(i)}-${round(i)}`,
    }))
  },
}

/** Short tasks over the demo's prose: what a small model without instruction tuning can answer. */
export const NEEDLE_TASKS: Record<string, Task> = {
  digits: factTask('digits', 12, 'a magic number; another one stands in the same prose'),
  serial: factTask('serial', 20, 'a serial number; another one stands in the same prose'),
  phrase: factTask('phrase', 12, 'a secret phrase; another one stands in the same prose'),
  niah_grid: grid,
}
