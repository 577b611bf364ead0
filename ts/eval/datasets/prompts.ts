import type { Item, Metric, Turn } from '../item.js'
import { jsonLines, type Row, readText } from './row.js'

const METRICS: Readonly<Record<Metric, true>> = {
  contains: true,
  containsAll: true,
  containsAny: true,
  f1: true,
  rougeL: true,
  exactMatch: true,
  editSimilarity: true,
  classification: true,
  retrieval: true,
  count: true,
}

/**
 * Our own format: one JSON object a line, `{"id", "task", "context", "question", "answers": [..]}`. Instead of `question` and `answers` it may
 * have `turns` (a list of objects with both) or a `continuation` whose loss is measured; `metric`, `classes`, `maxTokens` and
 * `stop` are as in `Item`. `id` is the number of the line and `task` is `prompts` where they are not given. Blank lines are skipped, as are fields
 * with other names.
 */
export function promptsFile(path: string): Item[] {
  return prompts(path, readText(path))
}

/** The items of a text in our own format; `path` is what errors name. */
export function prompts(path: string, text: string): Item[] {
  const places = new Map<string, string>()
  return jsonLines(path, text).map((row) => {
    const found = item(row)
    const key = JSON.stringify([found.task, found.id])
    const earlier = places.get(key)
    if (earlier) throw row.refuse(`task "${found.task}" has an item "${found.id}" already, at ${earlier}`)
    places.set(key, row.place)
    return found
  })
}

function item(row: Row): Item {
  const forms = ['question', 'turns', 'continuation'].filter((name) => row.has(name))
  if (forms.length !== 1) {
    throw row.refuse(
      `has ${forms.join(' and ') || 'nothing to ask'}, expected one of "question", "turns", "continuation"`,
    )
  }
  if (row.has('answers') && !row.has('question')) throw row.refuse('"answers" without "question"')
  const found: Item = {
    id: row.has('id') ? row.label('id') : row.place.slice(row.place.lastIndexOf(':') + 1),
    task: row.has('task') ? row.string('task') : 'prompts',
    context: row.string('context'),
    turns: row.has('turns') ? row.rows('turns').map(turn) : row.has('question') ? [turn(row)] : [],
  }
  if (row.has('turns') && found.turns.length === 0) throw row.refuse('"turns" is empty')
  if (row.has('continuation')) found.continuation = row.string('continuation')
  if (row.has('metric')) found.metric = metric(row)
  if (row.has('classes')) found.classes = row.strings('classes')
  if (row.has('maxTokens')) found.maxTokens = maxTokens(row)
  if (row.has('stop')) found.stop = row.strings('stop')
  if (found.metric === 'classification' && !found.classes?.length) throw row.refuse('classification needs "classes"')
  return found
}

function turn(row: Row): Turn {
  const answers = row.answers('answers')
  if (answers.includes('')) throw row.refuse('"answers" holds an empty answer')
  return { question: row.string('question'), answers }
}

function metric(row: Row): Metric {
  const name = row.string('metric')
  if (!isMetric(name))
    throw row.refuse(`"metric" is ${JSON.stringify(name)}, expected one of ${Object.keys(METRICS).join(', ')}`)
  return name
}

function isMetric(name: string): name is Metric {
  return Object.hasOwn(METRICS, name)
}

function maxTokens(row: Row): number {
  const tokens = row.whole('maxTokens')
  if (tokens === 0) throw row.refuse('"maxTokens" is 0')
  return tokens
}
