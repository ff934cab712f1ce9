// @aws-sdk/client-kms, the AWS SDK for JavaScript v3.
import * as kms from '@aws-sdk/client-kms'
import { serve } from './lines.mjs'

const clients = {}
const client = region => (clients[region] ??= new kms.KMSClient({ region }))

await serve({
  knows: operation => `${operation}Command` in kms,
  call: (operation, region, input) => client(region).send(new kms[`${operation}Command`](input)),
  async pages (operation, region, input, size) {
    const all = []
    for await (const page of kms[`paginate${operation}`]({ client: client(region), pageSize: size }, input)) all.push(page)
    return all
  },
  refused (error) {
    if (!(error instanceof kms.KMSServiceException)) return undefined
    const modelled = kms[error.name] && error instanceof kms[error.name]
    return { code: error.name, class: modelled ? error.name : 'KMSServiceException', message: error.message }
  }
})
