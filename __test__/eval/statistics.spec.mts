import test from 'ava'
import { median, pairedBootstrap, wilson } from '../../ts/eval/statistics.js'

const close = (a: number, b: number, tolerance: number) => Math.abs(a - b) < tolerance

test('Wilson’s interval is that of published tables', (t) => {
  // Newcombe (1998), table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
  const cases: [number, number, number, number][] = [
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
    [0, 20, 0, 0.1611],
    [1, 29, 0.0061, 0.1718],
  ]
  for (const [x, n, low, high] of cases) {
    const [a, b] = wilson(x, n)
    t.true(close(a, low, 6e-5) && close(b, high, 6e-5), `${x} of ${n}: ${a}, ${b}`)
  }
  t.deepEqual(wilson(0, 0), [0, 1])
})

test('the bootstrap of paired differences comes near the normal interval and is the same every time', (t) => {
  const differences = Array.from({ length: 400 }, (_, i) => ((i * 37) % 101) / 100 - 0.4)
  const mean = differences.reduce((a, b) => a + b) / 400
  const deviation = Math.sqrt(differences.reduce((sum, d) => sum + (d - mean) ** 2, 0) / 400)
  const { mean: found, interval } = pairedBootstrap(differences)
  t.true(close(found, mean, 1e-12))
  const half = (1.96 * deviation) / 20
  t.true(close(interval[0], mean - half, 0.15 * half) && close(interval[1], mean + half, 0.15 * half), String(interval))
  t.deepEqual(pairedBootstrap(differences), pairedBootstrap([...differences]))
  t.deepEqual(pairedBootstrap([]), { mean: 0, interval: [0, 0] })
  t.deepEqual(pairedBootstrap([0.25, 0.25]).interval, [0.25, 0.25])
})

test('the median is the middle, or between the two', (t) => {
  t.is(median([3, 1, 2]), 2)
  t.is(median([4, 1, 2, 3]), 2.5)
})
