import { createHash } from 'node:crypto'
import { closeSync, openSync, readdirSync, readSync, statSync } from 'node:fs'
import { cpus } from 'node:os'
import path from 'node:path'
import { HeadwiseError } from '../errors.js'
import type { PolicySpec } from '../generated/policy.js'
import type { Model } from '../model.js'
import type { Item } from './item.js'
import { Journal } from './journal.js'
import type { Setting } from './plan.js'
import type { Record } from './records.js'
import { type Results, rows } from './results.js'
import { type RunOptions, run } from './runner.js'

export interface EvaluateOptions extends RunOptions {
  /** The model's name in the results. */
  name: string
  /** Codec of the KV cache. */
  codec: string
  seed: number
  /** What was called, for the record. */
  command: string
}

/** Bump it when a change makes old answers wrong. */
const FORMAT = 1

/** Asks what the journal does not know yet and adds everything up. */
export async function evaluate(
  model: Model,
  items: readonly Item[],
  settings: readonly Setting[],
  journalPath: string,
  options: EvaluateOptions,
): Promise<Results> {
  checkItems(items)
  const { codec, chat } = options
  const journal = new Journal<Record>(journalPath, { format: FORMAT, model: fingerprint(model.path), codec, chat })
  try {
    await run(model, items, settings, journal, options)
    return {
      engine: 'headwise',
      model: options.name,
      date: new Date().toISOString().slice(0, 10),
      command: options.command,
      machine: `${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown'}`,
      policies: Object.fromEntries(settings.map(({ policy, spec }) => [policy, spec && withoutBudget(spec)])),
      ...rows(items, settings, journal, options.maxTokens, options.samples),
    }
  } finally {
    journal.close()
  }
}

/** Each item once, and something to ask in each; a task either asks questions or measures losses. */
export function checkItems(items: readonly Item[]): void {
  const seen = new Set<string>()
  const losses = new Map<string, boolean>()
  for (const { task, id, context, turns, continuation } of items) {
    const name = `${task}/${id}`
    const wrong = (reason: string) => new HeadwiseError('InvalidArgument', reason, { task, id })
    if (seen.has(name)) throw wrong(`two items are ${name}`)
    if (continuation === '') throw wrong(`${name}: the continuation is empty`)
    const nothing = context === '' && !turns[0]?.question && continuation === undefined
    if (nothing) throw wrong(`${name} has neither a context nor a question`)
    const isLoss = continuation !== undefined
    if ((losses.get(task) ?? isLoss) !== isLoss)
      throw wrong(`task ${task} mixes questions and continuations: name them apart`)
    losses.set(task, isLoss)
    seen.add(name)
  }
}

function withoutBudget(spec: PolicySpec): object {
  const { budget: _, ...rest } = spec as { budget?: unknown }
  return rest
}

const EDGE = 1 << 20

/** Names, sizes, beginnings and ends of a model's files: quick to have, and another model has others. */
function fingerprint(model: string): string {
  const hash = createHash('sha256')
  const folder = statSync(model).isDirectory()
  const files = folder
    ? readdirSync(model)
        .sort()
        .map((name) => path.join(model, name))
    : [model]
  for (const file of files.filter((file) => statSync(file).isFile())) {
    const { size } = statSync(file)
    hash.update(`${path.basename(file)} ${size}\n`)
    const edge = Buffer.alloc(Math.min(EDGE, size))
    const handle = openSync(file, 'r')
    for (const at of [0, size - edge.length]) hash.update(edge.subarray(0, readSync(handle, edge, 0, edge.length, at)))
    closeSync(handle)
  }
  return hash.digest('hex').slice(0, 20)
}
