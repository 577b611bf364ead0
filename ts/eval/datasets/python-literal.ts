/** Deeper values than published files have are refused, so that a hostile one cannot exhaust the stack. */
const MAX_DEPTH = 8

const NAMES = new Map<string, unknown>([
  ['None', null],
  ['True', true],
  ['False', false],
])

const ESCAPES: Readonly<Record<string, string>> = {
  n: '\n',
  t: '\t',
  r: '\r',
  '\n': '',
  '\\': '\\',
  "'": "'",
  '"': '"',
}

const ESCAPE = /\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|U(00(?:0[\da-fA-F]|10)[\da-fA-F]{4})|(.))/gs

/** A Python literal (`repr` of lists, dicts with text keys, texts, numbers, None, True, False) as JSON would give it. Throws SyntaxError. */
export function pythonLiteral(text: string): unknown {
  let at = 0

  const fail = (problem: string) => new SyntaxError(`${problem} at character ${at + 1}`)
  const match = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at
    const found = pattern.exec(text)?.[0]
    at += found?.length ?? 0
    return found
  }
  const space = () => match(/\s*/y)
  const take = (character: string) => {
    space()
    if (text[at] !== character) return false
    at++
    return true
  }

  /** Entries up to the closing bracket, each followed by a comma or the end. */
  const entries = <T>(close: string, entry: () => T): T[] => {
    const found: T[] = []
    while (!take(close)) {
      found.push(entry())
      if (!take(',') && text[at] !== close) throw fail(`expected , or ${close}`)
    }
    return found
  }

  const string = (): string => {
    const quote = text[at]
    if (quote !== "'" && quote !== '"') throw fail('expected a text')
    let end = at + 1
    while (end < text.length && text[end] !== quote) end += text[end] === '\\' ? 2 : 1
    if (end >= text.length) throw fail('a text without end')
    const inner = text.slice(at + 1, end)
    at = end + 1
    return inner.replace(ESCAPE, (whole, x, u, U, other) => {
      const code = x ?? u ?? U
      return code === undefined ? (ESCAPES[other] ?? whole) : String.fromCodePoint(Number.parseInt(code, 16))
    })
  }

  const value = (depth: number): unknown => {
    if (depth > MAX_DEPTH) throw fail('too deep')
    if (take('[')) return entries(']', () => value(depth + 1))
    if (take('{')) {
      const pair = (): [string, unknown] => {
        space()
        const key = string()
        if (!take(':')) throw fail('expected :')
        return [key, value(depth + 1)]
      }
      return Object.fromEntries(entries('}', pair))
    }
    if (text[at] === "'" || text[at] === '"') return string()
    const word = match(/[A-Za-z]+|-?\d+(?:\.\d*)?(?:e[+-]?\d+)?/y)
    if (word === undefined) throw fail('expected a value')
    if (NAMES.has(word)) return NAMES.get(word)
    const number = Number(word)
    if (Number.isNaN(number)) throw fail(`unknown name ${word}`)
    return number
  }

  const found = value(0)
  space()
  if (at < text.length) throw fail('expected the end')
  return found
}
