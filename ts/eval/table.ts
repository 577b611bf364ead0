import { bytes } from '../cli/progress.js'
import { textTable } from '../cli/text-table.js'
import { budgetText } from './plan.js'
import type { ResultRow, Results } from './results.js'

const percent = (share: number) => (100 * share).toFixed(0)

function cells(row: ResultRow): string[] {
  const { interval, versusFull } = row
  const isLoss = interval === null
  const difference = versusFull && (isLoss ? versusFull.mean.toFixed(3) : percent(versusFull.mean))
  return [
    row.task,
    row.mode,
    row.policy,
    budgetText(row.budget),
    row.total > 0 && row.errors === row.total
      ? (row.items[0]?.error ?? '')
      : isLoss
        ? `${row.score.toFixed(3)} nats`
        : `${row.correct}/${row.total}  ${percent(row.score)} % [${interval.map(percent).join(', ')}]`,
    difference === null ? '' : `${Number(difference) > 0 ? '+' : ''}${difference.replace(/^-(0(\.0*)?)$/, '$1')}`,
    row.errors === row.total ? '' : bytes(row.keptBytes),
    row.errors === row.total ? '' : bytes(row.physicalBytes),
    row.msPerToken === null ? '' : row.msPerToken.toFixed(2),
    row.compressSeconds.toFixed(2),
  ]
}

/** The rows of an experiment as a table for the terminal. */
export function resultTable({ results }: Pick<Results, 'results'>): string {
  const head = ['task', 'mode', 'policy', 'keep', 'right', 'to full', 'kept', 'held', 'ms/token', 'compress s']
  return `${textTable(head, results.map(cells))}\n`
}
