import { closeSync, existsSync, fsyncSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs'
import { HeadwiseError } from '../errors.js'

/** What an entry is filed under. */
export interface Entry {
  key: string
}

/**
 * An append-only file of JSON lines. A run that was killed at any moment goes on from what the file holds: a line is there whole or, if it was
 * torn, is cut off and its work done again. The first line says what experiment the file belongs to.
 */
export class Journal<T extends Entry> {
  readonly entries = new Map<string, T>()
  readonly #file: number

  /**
   * Opens or creates the journal of the experiment that `head` describes.
   *
   * @throws `InvalidArgument` when the file belongs to another experiment or is none of ours.
   */
  constructor(path: string, head: object) {
    const first = JSON.stringify(head)
    const text = existsSync(path) ? readFileSync(path, 'utf8') : ''
    const whole = text.slice(0, text.lastIndexOf('\n') + 1)
    const [found, ...lines] = whole.split('\n').slice(0, -1)
    if (found === undefined && !first.startsWith(text)) {
      throw new HeadwiseError('InvalidArgument', `${path} is no journal; --fresh starts over`, { path })
    }
    if (found !== undefined && found !== first) {
      const message = `${path} holds another experiment (${found.slice(0, 200)}); --fresh starts over, --out writes elsewhere`
      throw new HeadwiseError('InvalidArgument', message, { path, found, expected: first })
    }
    lines.forEach((line, i) => {
      const entry = parsed<T>(line, path, i + 2)
      if (!this.entries.has(entry.key)) this.entries.set(entry.key, entry)
    })
    this.#file = openSync(path, 'a')
    if (whole.length < text.length) ftruncateSync(this.#file, Buffer.byteLength(whole))
    if (found === undefined) this.#write(first)
  }

  /** Adds an entry; it is in the file when this returns. */
  add(entry: T): void {
    this.#write(JSON.stringify(entry))
    this.entries.set(entry.key, entry)
  }

  /** Closes the file, once its bytes are on the disk. */
  close(): void {
    fsyncSync(this.#file)
    closeSync(this.#file)
  }

  #write(line: string): void {
    const bytes = Buffer.from(`${line}\n`)
    for (let done = 0; done < bytes.length; ) done += writeSync(this.#file, bytes, done)
  }
}

function parsed<T extends Entry>(line: string, path: string, number: number): T {
  try {
    const entry = JSON.parse(line)
    if (typeof entry?.key === 'string') return entry
  } catch {
    // Reported below, as is JSON that is no entry.
  }
  const message = `${path}:${number} is no line of a journal; --fresh starts over`
  throw new HeadwiseError('InvalidArgument', message, { path, line: number })
}
