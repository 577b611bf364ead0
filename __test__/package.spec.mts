import { execFile } from 'node:child_process'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'
import { TINY } from './support.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const shell = process.platform === 'win32'
const run = (cwd: string, command: string, ...args: string[]) => promisify(execFile)(command, args, { cwd, shell })

const USE = `
  const model = await Model.load(${JSON.stringify(TINY)})
  const session = await model.createSession({ policy: policy.adaSnapKV({ budget: { tokensPerHead: 40 } }) })
  const { memory } = await session.prefill(Array.from({ length: 100 }, (_, i) => i))
  console.log(memory.slots === 40 * model.info.layers * model.info.kvHeads)
  await model.dispose()`

test('the packed tarball works in an empty project, from ESM, CommonJS and the command line', async (t) => {
  t.timeout(300_000)
  const project = await mkdtemp(path.join(tmpdir(), 'headwise-package-'))
  t.teardown(() => rm(project, { recursive: true, force: true }))
  await run(root, 'npm', 'pack', '--ignore-scripts', '--pack-destination', project)
  const [tarball] = (await readdir(project)).filter((name) => name.endsWith('.tgz'))
  await writeFile(path.join(project, 'package.json'), '{ "name": "empty", "private": true }')
  await run(project, 'npm', 'install', '--no-audit', '--no-fund', '--loglevel=error', `./${tarball}`)

  await writeFile(path.join(project, 'use.mjs'), `import { Model, policy } from 'headwise'\n${USE}`)
  t.is((await run(project, 'node', 'use.mjs')).stdout.trim(), 'true')
  await writeFile(
    path.join(project, 'use.cjs'),
    `const { Model, policy } = require('headwise')\nvoid (async () => {${USE}})()`,
  )
  t.is((await run(project, 'node', 'use.cjs')).stdout.trim(), 'true')
  const { stdout } = await run(project, 'npx', '--no-install', 'headwise', 'inspect', TINY, '--json')
  t.is(JSON.parse(stdout).layers, 3)

  const shipped = await readdir(path.join(project, 'node_modules', 'headwise'))
  for (const name of ['README.md', 'LICENSE-MIT', 'LICENSE-APACHE', 'index.d.ts']) t.true(shipped.includes(name), name)
  t.false(shipped.includes('crates'))
})
