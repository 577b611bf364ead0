/** The longest common subsequence of the first i entries of `a` and the first j of `b`, in row i, column j. */
function table<T>(a: readonly T[], b: readonly T[]): Uint32Array[] {
  const rows = [new Uint32Array(b.length + 1)]
  for (const [i, x] of a.entries()) {
    const above = rows[i] as Uint32Array
    const row = new Uint32Array(b.length + 1)
    for (const [j, y] of b.entries()) {
      row[j + 1] = x === y ? (above[j] as number) + 1 : Math.max(above[j + 1] as number, row[j] as number)
    }
    rows.push(row)
  }
  return rows
}

/** A longest common subsequence; of several, the one that a backward walk finds which leaves `b` first. */
function common<T>(a: readonly T[], b: readonly T[]): T[] {
  const rows = table(a, b)
  const at = (i: number, j: number) => rows[i]?.[j] as number
  const found: T[] = []
  for (let i = a.length, j = b.length; i > 0 && j > 0; ) {
    if (a[i - 1] === b[j - 1]) {
      found.push(a[i - 1] as T)
      i--
      j--
    } else if (at(i - 1, j) > at(i, j - 1)) i--
    else j--
  }
  return found
}

/**
 * The indel ratio of two texts: 2 · LCS / (both lengths), in characters. It is 1 less the share of characters that have to be inserted or
 * deleted (replacing one counts as both), which is what `fuzz.ratio` computes with python-Levenshtein; not Levenshtein distance, and not
 * difflib's ratio, which fuzzywuzzy falls back to.
 */
export function indelRatio(a: string, b: string): number {
  const [x, y] = [[...a], [...b]]
  if (x.length + y.length === 0) return 1
  return (2 * (table(x, y)[x.length]?.[y.length] as number)) / (x.length + y.length)
}

/**
 * ROUGE-L at the level of a summary, as the Python package `rouge` (github.com/pltrdy/rouge) computes it by default and LongBench takes
 * it: texts are cut into sentences at full stops; the union of the words of the longest common subsequences of all pairs of
 * sentences is set against the *distinct* words of each text. Plain harmonic mean. Sentences without words do not count.
 */
export function rougeLSummary(text: string, reference: string): number {
  const [mine, theirs] = [sentences(text), sentences(reference)]
  const hits = new Set(theirs.flatMap((theirSentence) => mine.flatMap((sentence) => common(theirSentence, sentence))))
  return hits.size === 0 ? 0 : (2 * hits.size) / (new Set(mine.flat()).size + new Set(theirs.flat()).size)
}

function sentences(text: string): string[][] {
  const all = text.split('.').map((sentence) => sentence.split(/\s+/u).filter((word) => word !== ''))
  return all.filter((sentence) => sentence.length > 0)
}
