import type { Item, Metric } from '../item.js'
import { LETTERS } from './choices.js'
import { jsonLines, type Row } from './row.js'
import { subtask } from './subtask.js'

/** Metric and most tokens. ZeroSCROLLS lets every task write 1024 tokens; answers beyond the question are cut here. */
const SUBTASKS: Record<string, { metric: Metric; maxTokens: number }> = {
  gov_report: { metric: 'rougeL', maxTokens: 1024 },
  summ_screen_fd: { metric: 'rougeL', maxTokens: 1024 },
  qmsum: { metric: 'rougeL', maxTokens: 1024 },
  squality: { metric: 'rougeL', maxTokens: 1024 },
  qasper: { metric: 'f1', maxTokens: 128 },
  narrative_qa: { metric: 'f1', maxTokens: 128 },
  musique: { metric: 'f1', maxTokens: 64 },
  quality: { metric: 'classification', maxTokens: 16 },
}

/**
 * ZeroSCROLLS (arXiv 2305.14196, github.com/tau-nlp/zero_scrolls), by the names of its files or folders; only the validation files hold
 * answers. The prompt is theirs and is cut behind the document. Summaries are judged by ROUGE-L alone, not the geometric mean
 * with ROUGE-1 and -2; `space_digest` and `book_sum_sort` have metrics of their own and are not among them.
 */
export function zeroScrolls(path: string, text: string): Item[] {
  const [name, { metric, maxTokens }] = subtask('ZeroSCROLLS', path, SUBTASKS)
  const items = new Map<string, Item>()
  for (const row of jsonLines(path, text)) {
    const id = row.string('id')
    const answer = metric === 'classification' ? letter(row) : row.string('output')
    const known = items.get(id)
    // A question with several right answers has a row for each of them.
    if (known) known.turns[0]?.answers.push(answer)
    else {
      const { context, question } = cut(row)
      const turns = [{ question, answers: [answer] }]
      const item = { id, task: `zeroscrolls/${name}`, context, turns, metric, maxTokens }
      items.set(id, metric === 'classification' ? { ...item, classes: LETTERS } : item)
    }
  }
  return [...items.values()]
}

/** The prompt in two; Python's indices count code points. */
function cut(row: Row): { context: string; question: string } {
  const input = [...row.string('input')]
  const end = row.whole('document_end_index')
  if (end > input.length) throw row.refuse(`"document_end_index" is ${end}, behind the end of "input"`)
  return { context: input.slice(0, end).join(''), question: input.slice(end).join('') }
}

function letter(row: Row): string {
  const found = /^\s*\(?([A-D])\b/.exec(row.string('output'))?.[1]
  if (found === undefined) throw row.refuse('"output" does not begin with the letter of an option')
  return found
}
