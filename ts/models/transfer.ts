import { open, stat } from 'node:fs/promises'
import path from 'node:path'
import { HeadwiseError } from '../errors.js'
import type { Context, Reporter } from './context.js'
import { checkSignal } from './context.js'
import { type Digest, ensureSpace, matches, remove } from './files.js'
import { type Call, Deadline, networkError, pause, send, statusError, Transient, unexpected } from './http.js'

/** One file to fetch. */
export interface Transfer {
  url: string
  call: Call
  reference: string
  /** Name for progress and errors. */
  file: string
  /** Where the bytes are collected; what an earlier run left there is continued. */
  target: string
  size: number | undefined
  digest: Digest | undefined
}

/**
 * Fetches a file and checks it. A cut transfer is continued with a range request; a server that ignores ranges makes
 * it start again. When the checksum is wrong and part of the file came from an earlier run, that part gets one
 * second chance from zero. After a wrong checksum nothing is left behind; after any other failure the part is.
 */
export async function transfer(context: Context, job: Transfer, reporter: Reporter): Promise<void> {
  const continued = (await sizeOf(job.target)) > 0
  await fetchAll(context, job, reporter)
  if (await isRight(context, job, reporter)) return
  await remove(job.target)
  if (continued) {
    await fetchAll(context, job, reporter)
    if (await isRight(context, job, reporter)) return
    await remove(job.target)
  }
  throw new HeadwiseError('ChecksumMismatch', `${job.reference}: ${job.file} is not what the server promised`, {
    reference: job.reference,
    file: job.file,
    expected: job.digest?.hex,
  })
}

async function isRight(context: Context, job: Transfer, reporter: Reporter): Promise<boolean> {
  if (!job.digest) return true
  reporter.step('verify', { file: job.file })
  return matches(job.target, job.digest, context.signal)
}

async function fetchAll(context: Context, job: Transfer, reporter: Reporter): Promise<void> {
  const have = await sizeOf(job.target)
  if (job.size !== undefined) {
    if (have > job.size) await remove(job.target)
    await ensureSpace(path.dirname(job.target), job.size - (have > job.size ? 0 : have))
  }
  for (let attempt = 0; ; ) {
    checkSignal(context)
    const before = await sizeOf(job.target)
    if (before > 0 && before === job.size) return
    try {
      await fetchRest(context, job, before, reporter)
      return
    } catch (error) {
      if (!(error instanceof Transient)) throw error
      if ((await sizeOf(job.target)) > before) attempt = 0
      if (attempt >= context.network.transferRetries) throw error.error
      reporter.step('retry', { file: job.file, reason: error.message })
      await pause(context, attempt++, error)
    }
  }
}

async function fetchRest(context: Context, job: Transfer, before: number, reporter: Reporter): Promise<void> {
  const { answerTimeoutMs, stallTimeoutMs } = context.network
  const deadline = new Deadline(answerTimeoutMs, context.signal)
  try {
    const headers = before > 0 ? { range: `bytes=${before}-` } : {}
    const answers = await send(context, job.url, { ...job.call, headers }, deadline)
    const response = answers.at(-1) as Response
    if (response.status === 416) {
      await response.body?.cancel()
      await remove(job.target)
      throw new Transient(unexpected(job.url, 'the range is refused', 416))
    }
    if (response.status !== 200 && response.status !== 206) {
      await response.body?.cancel()
      throw statusError(response, job.url, job.reference)
    }
    const start = response.status === 206 ? rangeStart(response, job, before) : 0
    const total = job.size ?? promisedTotal(response, start)
    let position = start
    const file = await open(job.target, start > 0 ? 'r+' : 'w')
    try {
      if (!response.body) throw unexpected(job.url, 'no body', response.status)
      for await (const chunk of response.body) {
        deadline.refresh(stallTimeoutMs)
        if (total !== undefined && position + chunk.length > total) {
          throw unexpected(job.url, `sends more than the ${total} bytes that were promised`)
        }
        await file.write(chunk, 0, chunk.length, position)
        position += chunk.length
        reporter.bytes('download', job.file, position, total)
      }
    } finally {
      await file.close()
    }
    if (total !== undefined && position < total) {
      const error = `the transfer ended after ${position} of ${total} bytes`
      throw new Transient(new HeadwiseError('NetworkUnreachable', `${job.file}: ${error}`, { file: job.file, total }))
    }
  } catch (error) {
    throw error instanceof HeadwiseError || error instanceof Transient || isFileError(error)
      ? error
      : networkError(context, job.url, error)
  } finally {
    deadline.clear()
  }
}

/** A full disk is no reason to try again. */
function isFileError(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error && ['write', 'open', 'close'].includes(String(error.syscall))
}

function rangeStart(response: Response, job: Transfer, asked: number): number {
  const range = /^bytes (\d+)-\d+\/(?:\d+|\*)$/.exec(response.headers.get('content-range') ?? '')
  if (!range || Number(range[1]) !== asked) throw unexpected(job.url, 'answers with another range than asked', 206)
  return asked
}

function promisedTotal(response: Response, start: number): number | undefined {
  const length = response.headers.get('content-length')
  return length !== null && /^\d+$/.test(length) ? start + Number(length) : undefined
}

async function sizeOf(file: string): Promise<number> {
  return (await stat(file).catch(() => undefined))?.size ?? 0
}
