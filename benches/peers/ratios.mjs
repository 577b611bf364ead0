import { adaSize, INT8 } from './parts.mjs'

/** @param {number[]} values */
export function median(values) {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** What a figure counts; of milliseconds fewer are better. */
export function unit(figure) {
  if (/^(prefill|batch)/.test(figure)) return 'tok/s'
  return figure.startsWith('decode') ? 'ms/tok' : 'ms'
}

/** Medians by engine and figure. */
export function medians(raw) {
  const each = (figures) => Object.fromEntries(Object.entries(figures).map(([name, values]) => [name, median(values)]))
  return Object.fromEntries(Object.entries(raw).map(([engine, figures]) => [engine, each(figures)]))
}

/** Ratios of medians, of those that were measured; above 1, headwise (its compressed cache, its batch) is faster. */
export function ratios(middle, sizes) {
  const [shortest, longest] = [sizes[0], sizes.at(-1)]
  const ada = `decode_${adaSize(sizes)}_ada`
  const definitions = [
    ...['prefill', 'decode'].flatMap((phase) => sizes.map((size) => same(`${phase}_${size}`))),
    [`${ada}10_vs_peer_full`, `${ada}10`, 'llama', `decode_${longest}`],
    [`${ada}10_vs_own_${shortest}`, `${ada}10`, 'headwise', `decode_${shortest}`],
    [`${ada}20_vs_own_${shortest}`, `${ada}20`, 'headwise', `decode_${shortest}`],
    ...[10, 20].map((keep) => int8(`${ada}${keep}`, `decode_${shortest}`, `_vs_own_${shortest}`)),
    ['batch8_vs_1', 'batch8', 'headwise', 'batch1'],
    ['batch8_vs_peer_batch8', 'batch8', 'llama', 'batch8'],
    ['batch8_ada10_vs_peer_batch8', 'batch8_ada10', 'llama', 'batch8'],
    [`selection_${longest}_vs_torch`, `selection_${longest}`, 'torch', `selection_${longest}`],
    [`selection_${longest}_vs_kvpress`, `selection_${longest}`, 'kvpress', `selection_${longest}`],
  ]
  const result = {}
  for (const [name, figure, engine, beside, own = 'headwise'] of definitions) {
    const [ours, theirs] = [middle[own]?.[figure], middle[engine]?.[beside]]
    if (ours === undefined || theirs === undefined) continue
    result[name] = Number((unit(figure) === 'tok/s' ? ours / theirs : theirs / ours).toFixed(3))
  }
  return result
}

/** Two figures of our own, both with caches in int8. */
const int8 = (figure, beside, name) => [`${figure}_int8${name}_int8`, figure, INT8, beside, INT8]

/** A figure beside llama.cpp's own of the same name. */
const same = (figure) => [figure, figure, 'llama', figure]
