import { resolveModel } from '../../../ts/models/resolve.js'

const model = await resolveModel(process.argv[2] ?? '')
process.stdout.write(`${model.path}\n`)
