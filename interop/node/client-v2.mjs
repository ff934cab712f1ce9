// aws-sdk, the AWS SDK for JavaScript v2: retired, and still in many programs.
import KMS from 'aws-sdk/clients/kms.js'
import { serve } from './lines.mjs'

const clients = {}
const client = region => (clients[region] ??= new KMS({ region, endpoint: process.env.AWS_ENDPOINT_URL }))
const method = operation => operation[0].toLowerCase() + operation.slice(1)

await serve({
  knows: operation => typeof client(process.env.AWS_REGION)[method(operation)] === 'function',
  call: (operation, region, input) => client(region)[method(operation)](input).promise(),
  pages: (operation, region, input, size) => new Promise((resolve, reject) => {
    const all = []
    client(region)[method(operation)]({ ...input, Limit: size }).eachPage((error, page) => {
      if (error) return reject(error)
      if (page === null) return resolve(all)
      all.push(page)
    })
  }),
  // Its errors have a code and no classes.
  refused: error => error.statusCode ? { code: error.code, class: error.code, message: error.message } : undefined
})
