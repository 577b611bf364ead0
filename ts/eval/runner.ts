import type { PolicySpec } from '../generated/policy.js'
import type { Model } from '../model.js'
import { ask, compressed, type Outcome, Reading, refusal, refused, sample } from './ask.js'
import type { Item } from './item.js'
import type { Journal } from './journal.js'
import type { Setting } from './plan.js'
import { encode, type Prompt, sharedPrefix } from './prompt.js'
import { answerKey, applies, type Group, grouped, type Record, sampleKey } from './records.js'

export interface RunOptions {
  /** Most tokens of an answer, where the item does not say. */
  maxTokens: number
  /** Through the chat template. */
  chat: boolean
  /** Sessions that run at a time. */
  parallel: number
  /** Contexts of each task on which every setting is also timed by itself, and its kept slots counted. */
  samples: number
  onProgress?: (done: number, total: number, what: string) => void
}

/** What is still to be done on a group. */
interface Work {
  group: Group
  answers: Map<Setting, Item[]>
  samples: Setting[]
}

/**
 * Answers every item in every setting that the journal does not hold yet. Each context is read once; each setting works on forks of it, and
 * their answers are decoded together.
 */
export async function run(
  model: Model,
  items: readonly Item[],
  settings: readonly Setting[],
  journal: Journal<Record>,
  options: RunOptions,
): Promise<void> {
  const work = grouped(items, options.samples).map((group) => open(group, settings, journal, options.maxTokens))
  const size = ({ answers, samples }: Work) =>
    [...answers.values()].reduce((sum, items) => sum + items.length, samples.length)
  const total = work.reduce((sum, part) => sum + size(part), 0)
  let done = 0
  for (const part of work.filter((part) => size(part) > 0)) {
    const task = part.group.items[0]?.task ?? ''
    options.onProgress?.(done, total, task)
    await new GroupRun(model, part, options, (record) => {
      journal.add(record)
      done += 1
      options.onProgress?.(done, total, task)
    }).run()
  }
}

function open(group: Group, settings: readonly Setting[], journal: Journal<Record>, maxTokens: number): Work {
  const fitting = settings.filter((setting) => group.items.some((item) => applies(item, setting)))
  const isOpen = (item: Item, setting: Setting) =>
    applies(item, setting) && !journal.entries.has(answerKey(item, setting, maxTokens))
  const answers = fitting.map((setting) => [setting, group.items.filter((item) => isOpen(item, setting))] as const)
  const samples = group.sampled ? fitting.filter((setting) => !journal.entries.has(sampleKey(group, setting))) : []
  return { group, answers: new Map(answers.filter(([, items]) => items.length > 0)), samples }
}

/** One context: it is read, and forked for every question and setting. */
class GroupRun {
  readonly #model: Model
  readonly #work: Work
  readonly #options: RunOptions
  readonly #add: (record: Record) => void
  readonly #prompts: Map<Item, Prompt>

  constructor(model: Model, work: Work, options: RunOptions, add: (record: Record) => void) {
    this.#model = model
    this.#work = work
    this.#options = options
    this.#add = add
    this.#prompts = new Map(work.group.items.map((item) => [item, encode(model, item, options.chat)]))
  }

  async run(): Promise<void> {
    const prompts = [...this.#prompts.values()]
    const context = (prompts[0] as Prompt).context
    // A question may change the tokens at the seam, so what is read for all ends where the first text differs.
    const shared = sharedPrefix([context, ...prompts.map(({ joint }) => joint)])
    const observeFor = unique([...this.#work.answers.keys(), ...this.#work.samples].flatMap(({ spec }) => spec ?? []))
    await using session = await this.#model.createSession({ observeFor })
    const base = new Reading(session)
    const error = await base.extend(context.subarray(0, shared))
    await this.#agnostic(base, context.subarray(shared), error)
    for (const item of this.#work.group.items) await this.#aware(base, item, shared, error)
  }

  /** The context alone is compressed, once a setting for all its questions. */
  async #agnostic(base: Reading, rest: Uint32Array, failed: string | undefined): Promise<void> {
    const [answers, samples] = this.#of('agnostic')
    if (answers.length + samples.length === 0) return
    await using session = await base.session.fork()
    const reading = new Reading(session, base.ms)
    const error = failed ?? (await reading.extend(rest))
    await pool(answers, this.#options.parallel, ([setting, items]) => this.#answer(setting, items, reading, error))
    await this.#samples(samples, reading, error)
  }

  /** The context with an item's first question is compressed. */
  async #aware(base: Reading, item: Item, shared: number, failed: string | undefined): Promise<void> {
    const [all, allSamples] = this.#of('aware')
    const answers = all.filter(([, items]) => items.includes(item))
    const samples = item === this.#work.group.items[0] ? allSamples : []
    if (answers.length + samples.length === 0) return
    await using session = await base.session.fork()
    const reading = new Reading(session, base.ms)
    const error = failed ?? (await reading.extend((this.#prompts.get(item) as Prompt).joint.subarray(shared)))
    await pool(answers, this.#options.parallel, ([setting]) => this.#answer(setting, [item], reading, error))
    await this.#samples(samples, reading, error)
  }

  #of(mode: Setting['mode']): [[Setting, Item[]][], Setting[]] {
    const { answers, samples } = this.#work
    return [[...answers].filter(([setting]) => setting.mode === mode), samples.filter((s) => s.mode === mode)]
  }

  async #answer(setting: Setting, items: readonly Item[], from: Reading, failed: string | undefined): Promise<void> {
    const add = (item: Item, outcome: Outcome) =>
      this.#add({ key: answerKey(item, setting, this.#options.maxTokens), ...outcome })
    const behind = failed ?? (await compressed(from, setting.spec).catch(refusal))
    if (typeof behind === 'string') {
      for (const item of items) add(item, refused(behind))
      return
    }
    await using _ = behind.session
    for (const item of items) {
      const prompt = this.#prompts.get(item) as Prompt
      const asked = ask(item, prompt, behind, setting.mode === 'aware', this.#options.maxTokens)
      add(item, await asked.catch((error: unknown) => refused(refusal(error))))
    }
  }

  /** One after the other: each is timed with nothing else running. */
  async #samples(settings: readonly Setting[], from: Reading, failed: string | undefined): Promise<void> {
    for (const setting of settings) {
      const key = sampleKey(this.#work.group, setting)
      const behind = failed ?? (await compressed(from, setting.spec).catch(refusal))
      if (typeof behind === 'string') {
        this.#add({ key, error: behind, msPerToken: 0, share: [] })
        continue
      }
      await using _ = behind.session
      this.#add({ key, ...(await sample(behind.session)) })
    }
  }
}

function unique(specs: readonly PolicySpec[]): PolicySpec[] {
  return [...new Map(specs.map((spec) => [JSON.stringify(spec), spec])).values()]
}

/** Runs `body` on all, `width` at a time. After an error none is begun any more. */
async function pool<T>(all: readonly T[], width: number, body: (one: T) => Promise<void>): Promise<void> {
  const rest = all.values()
  let failed = false
  const worker = async () => {
    for (const one of rest) {
      if (failed) return
      await body(one).catch((error: unknown) => {
        failed = true
        throw error
      })
    }
  }
  const ended = await Promise.allSettled(Array.from({ length: Math.min(width, all.length) }, worker))
  for (const end of ended) if (end.status === 'rejected') throw end.reason
}
