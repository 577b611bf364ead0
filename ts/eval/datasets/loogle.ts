import type { Item } from '../item.js'
import { pythonLiteral } from './python-literal.js'
import { jsonLines, Row } from './row.js'
import { subtask } from './subtask.js'

interface Subtask {
  maxTokens: number
  before: string
  after: (question: string) => string
}

const questions = (maxTokens: number): Subtask => ({
  maxTokens,
  before: 'Answer the question after the long text below.\n',
  after: (question) => `\nQuestion: ${question}\nAnswer:`,
})

const summary: Subtask = { maxTokens: 500, before: 'Summarise the paper below.\n', after: () => '\nSummary:' }

const SUBTASKS: Record<string, Subtask> = {
  shortdep_qa: questions(300),
  longdep_qa: questions(500),
  longdep_summarization: summary,
  summarization: summary,
}

/**
 * LooGLE (arXiv 2311.04939, github.com/bigai-nlco/LooGLE), by the names of its files; of its several metrics, ROUGE-L. Every question is an
 * item over the shared text, as LooGLE asks them. `shortdep_cloze` wants several masks in one answer and is not among them.
 */
export function looGle(path: string, text: string): Item[] {
  const [name, { before, after, maxTokens }] = subtask('LooGLE', path, SUBTASKS)
  return jsonLines(path, text).flatMap((row, i) => {
    const context = before + row.string(row.has('context') ? 'context' : 'input')
    return pairs(row).map(([question, answer], j): Item => {
      const turns = [{ question: after(question), answers: [answer] }]
      return { id: `${i}-${j}`, task: `loogle/${name}`, context, turns, metric: 'rougeL', maxTokens }
    })
  })
}

/**
 * Questions and answers. The first layout has them all in a list, or in the text of one as Python writes it, where `none` stands for a
 * summary; the present one has a row for each.
 */
function pairs(row: Row): [string, string][] {
  const value = row.value('qa_pairs')
  if (value === undefined) return [[row.has('question') ? row.string('question') : '', row.string('answer')]]
  if (value === 'none') return [['', row.string('output')]]
  const list = new Row(row.place, { qa_pairs: typeof value === 'string' ? literal(row, value) : value })
  return list.rows('qa_pairs').map((pair) => [pair.string('Q'), pair.string('A')])
}

function literal(row: Row, text: string): unknown {
  try {
    return pythonLiteral(text)
  } catch (error) {
    throw row.refuse(`"qa_pairs" is no list in Python: ${(error as Error).message}`)
  }
}
