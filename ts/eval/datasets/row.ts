import { readFileSync } from 'node:fs'
import { HeadwiseError, systemCode } from '../../errors.js'

/** An object of a file that somebody else wrote: fields are read by type, and what is wrong is told with its place. */
export class Row {
  /** `file:line`, or `file: data[3]`. */
  readonly place: string
  readonly #fields: Readonly<Record<string, unknown>>

  constructor(place: string, value: unknown) {
    this.place = place
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw refused(place, 'expected an object')
    this.#fields = value as Record<string, unknown>
  }

  has(name: string): boolean {
    return this.value(name) !== undefined && this.value(name) !== null
  }

  value(name: string): unknown {
    return Object.hasOwn(this.#fields, name) ? this.#fields[name] : undefined
  }

  refuse(problem: string): HeadwiseError {
    return refused(this.place, problem)
  }

  string(name: string): string {
    const value = this.value(name)
    if (typeof value !== 'string') throw this.refuse(`"${name}" is ${kind(value)}, expected a string`)
    return value
  }

  /** A text, or a number as a text. */
  label(name: string): string {
    const value = this.value(name)
    return typeof value === 'number' ? String(value) : this.string(name)
  }

  /** A whole number that is not negative. */
  whole(name: string): number {
    const value = this.value(name)
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
      throw this.refuse(`"${name}" is ${kind(value)}, expected a whole number`)
    }
    return value
  }

  /** A list of texts. */
  strings(name: string): string[] {
    return this.list(name).map((value, i) => {
      if (typeof value !== 'string') throw this.refuse(`"${name}[${i}]" is ${kind(value)}, expected a string`)
      return value
    })
  }

  /** One text or number, or a list of them, as texts: published files write answers in each of these ways. */
  answers(name: string): string[] {
    const value = this.value(name)
    const values: unknown[] = Array.isArray(value) ? value : [value]
    if (values.length === 0) throw this.refuse(`"${name}" is empty`)
    return values.map((value) => {
      if (typeof value === 'string') return value
      if (typeof value === 'number') return String(value)
      throw this.refuse(`"${name}" holds ${kind(value)}, expected strings or numbers`)
    })
  }

  list(name: string): unknown[] {
    const value = this.value(name)
    if (!Array.isArray(value)) throw this.refuse(`"${name}" is ${kind(value)}, expected a list`)
    return value
  }

  rows(name: string): Row[] {
    return this.list(name).map((value, i) => new Row(`${this.place}: ${name}[${i}]`, value))
  }
}

/** The content of a text file. */
export function readText(path: string): string {
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (error) {
    throw new HeadwiseError('Io', `cannot read ${path} (${systemCode(error) ?? error})`, { path }, { cause: error })
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    throw new HeadwiseError('InvalidArgument', `${path}: not a UTF-8 text`, { path }, { cause: error })
  }
}

/** The objects of a file with one JSON object a line; blank lines are skipped. */
export function jsonLines(path: string, text: string): Row[] {
  return text.split('\n').flatMap((line, i) => {
    if (line.trim() === '') return []
    const place = `${path}:${i + 1}`
    return [new Row(place, parsed(place, line))]
  })
}

/** What a JSON text holds. */
export function parsed(place: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new HeadwiseError('InvalidArgument', `${place}: not JSON: ${(error as Error).message}`, { place })
  }
}

function refused(place: string, problem: string): HeadwiseError {
  return new HeadwiseError('InvalidArgument', `${place}: ${problem}`, { place, problem })
}

function kind(value: unknown): string {
  if (value === undefined) return 'missing'
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'a list'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}
