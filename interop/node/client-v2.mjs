// aws-sdk, the AWS SDK for JavaScript v2: retired, and still in many programs.
import KMS from 'aws-sdk/clients/kms.js'
import STS from 'aws-sdk/clients/sts.js'
import { serve } from './lines.mjs'

const clients = {}

// method returns an operation as a function of its input.
function method (operation, region = process.env.AWS_REGION) {
  const [Client, name] = operation.startsWith('sts:') ? [STS, operation.slice('sts:'.length)] : [KMS, operation]
  const client = (clients[Client.serviceIdentifier + region] ??= new Client({ region, endpoint: process.env.AWS_ENDPOINT_URL }))
  return client[name[0].toLowerCase() + name.slice(1)]?.bind(client)
}

await serve({
  knows: operation => method(operation) !== undefined,
  call: (operation, region, input) => method(operation, region)(input).promise(),
  pages: (operation, region, input, size) => new Promise((resolve, reject) => {
    const all = []
    method(operation, region)({ ...input, Limit: size }).eachPage((error, page) => {
      if (error) return reject(error)
      if (page === null) return resolve(all)
      all.push(page)
    })
  }),
  // Its errors have a code and no classes.
  refused: error => error.statusCode ? { code: error.code, class: error.code, message: error.message } : undefined
})
