import { basename, dirname } from 'node:path'
import { HeadwiseError } from '../../errors.js'

/** The subtask that a file holds, by its own name (`hotpotqa.jsonl`, `hotpotqa_e.jsonl`) or its folder's (`gov_report/validation.jsonl`). */
export function subtask<T>(
  dataset: string,
  path: string,
  table: Readonly<Record<string, T>>,
): [name: string, entry: T] {
  const stem = basename(path).replace(/\.jsonl?$/, '')
  const folder = basename(dirname(path))
  const named = [
    [stem, stem],
    // LongBench-E has other rows of the same subtask.
    [stem, stem.replace(/_e$/, '')],
    [folder, folder],
  ] as const
  for (const [name, key] of named) {
    const entry = Object.hasOwn(table, key) ? table[key] : undefined
    if (entry !== undefined) return [name, entry]
  }
  const known = Object.keys(table).join(', ')
  const message = `${path}: neither its name nor its folder's is a subtask of ${dataset}: ${known}`
  throw new HeadwiseError('InvalidArgument', message, { path, dataset })
}
