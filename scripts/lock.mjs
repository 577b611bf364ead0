// Completes package-lock.json after `npm install` (npm run lock does both). A mirror that carries only the binaries of
// one platform makes npm leave the other platforms' optional packages out of the lockfile, and then `npm ci` refuses
// that lockfile everywhere. Their exact versions stand in the packages that want them, their platform in their names.

import { readFileSync, writeFileSync } from 'node:fs'

const file = new URL('../package-lock.json', import.meta.url)
const OS = /-(android|darwin|freebsd|linux|openharmony|win32)-/
const CPU = /-(arm64|arm|x64|ia32|ppc64|riscv64|s390x|wasm32)\b/
const LIBC = /-(gnu|musl)\b/
const EXACT = /^\d+\.\d+\.\d+/

/** @type {{ packages: Record<string, Record<string, any>> }} */
const lock = JSON.parse(readFileSync(file, 'utf8'))
let added = 0
for (const [parent, { optionalDependencies = {}, dev }] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(optionalDependencies)) {
    const places = [`node_modules/${name}`, `${parent}/node_modules/${name}`]
    if (places.some((place) => lock.packages[place])) continue
    const cpu = CPU.exec(name)?.[1]
    if (!cpu || !EXACT.test(version)) throw new Error(`${parent} wants ${name}@${version}: which platform is that for?`)
    const os = OS.exec(name)?.[1]
    const libc = os === 'linux' ? LIBC.exec(name)?.[1] : undefined
    lock.packages[`node_modules/${name}`] = {
      version,
      cpu: [cpu],
      ...(dev ? { dev } : {}),
      ...(libc ? { libc: [libc === 'gnu' ? 'glibc' : 'musl'] } : {}),
      optional: true,
      ...(os ? { os: [os] } : {}),
    }
    added++
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)))
writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`)
process.stdout.write(`package-lock.json: ${added} packages of other platforms added\n`)
