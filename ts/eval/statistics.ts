import { random } from '../demo/documents.js'

/** A 95 % interval. */
export type Interval = [low: number, high: number]

/** Wilson's score interval for `successes` of `total` (Wilson 1927), 95 %. */
export function wilson(successes: number, total: number): Interval {
  if (total === 0) return [0, 1]
  const z = 1.959963984540054
  const share = successes / total
  const centre = share + (z * z) / (2 * total)
  const spread = z * Math.sqrt((share * (1 - share)) / total + (z * z) / (4 * total * total))
  const scale = 1 + (z * z) / total
  return [Math.max(0, (centre - spread) / scale), Math.min(1, (centre + spread) / scale)]
}

const RESAMPLES = 2000

/**
 * Mean of paired differences with a 95 % percentile interval of the bootstrap (Efron 1979): items are drawn again with replacement, each with both
 * of its results. Seeded, so that the same differences give the same interval.
 */
export function pairedBootstrap(differences: readonly number[]): { mean: number; interval: Interval } {
  const n = differences.length
  const mean = differences.reduce((sum, d) => sum + d, 0) / Math.max(n, 1)
  if (n === 0) return { mean: 0, interval: [0, 0] }
  const next = random(n)
  const means = Float64Array.from({ length: RESAMPLES }, () => {
    let sum = 0
    for (let i = 0; i < n; i++) sum += differences[Math.floor(next() * n)] as number
    return sum / n
  }).sort()
  const at = (share: number) => means[Math.round(share * (RESAMPLES - 1))] as number
  return { mean, interval: [at(0.025), at(0.975)] }
}

/** The middle of some numbers; NaN of none. */
export function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b)
  const middle = sorted.length / 2
  return ((sorted[Math.ceil(middle) - 1] as number) + (sorted[Math.floor(middle)] as number)) / 2
}
