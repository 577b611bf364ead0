import { stderr } from 'node:process'
import type { ProgressEvent } from '../models/index.js'

/** One line on a terminal that is written over; nothing where there is no terminal. */
export class ProgressLine {
  readonly #start = performance.now()
  #drawn = 0

  update(done: number, total: number, what: string): void {
    if (!stderr.isTTY) return
    const now = performance.now()
    if (now - this.#drawn < 80 && done < total) return
    this.#drawn = now
    const share = total > 0 ? Math.min(done / total, 1) : 0
    const bar = '█'.repeat(Math.round(share * 24)).padEnd(24, '░')
    const seconds = (now - this.#start) / 1e3
    const left = share > 0.02 && share < 1 ? `, ${Math.ceil((seconds / share) * (1 - share))} s left` : ''
    const text = `${bar} ${Math.floor(share * 100)} %  ${what}${left}`
    stderr.write(`\r${text.slice(0, (stderr.columns || 80) - 1)}\x1b[K`)
  }

  /** Shows how far a model is on its way. */
  readonly model = ({ phase, file, received, total, reason }: ProgressEvent): void => {
    this.update(received ?? 0, total ?? 0, [phase, file, reason && `(${reason})`].filter(Boolean).join(' '))
  }

  clear(): void {
    if (stderr.isTTY) stderr.write('\r\x1b[K')
  }
}

/** Bytes for people: `98.4 MB`. */
export function bytes(n: number): string {
  if (n >= 1e9) return `${(n / 1e9).toFixed(2)} GB`
  if (n >= 1e6) return `${(n / 1e6).toFixed(1)} MB`
  return `${(n / 1e3).toFixed(1)} kB`
}
