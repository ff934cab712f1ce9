// @aws-sdk/client-kms and client-sts, the AWS SDK for JavaScript v3.
import * as kms from '@aws-sdk/client-kms'
import * as sts from '@aws-sdk/client-sts'
import { serve } from './lines.mjs'

const clients = {}

function service (operation, region) {
  const [sdk, Client, name] = operation.startsWith('sts:')
    ? [sts, sts.STSClient, operation.slice('sts:'.length)]
    : [kms, kms.KMSClient, operation]
  const client = (clients[Client.name + region] ??= new Client({ region }))
  return { sdk, client, name, command: sdk[`${name}Command`] }
}

await serve({
  knows: operation => service(operation).command !== undefined,
  call (operation, region, input) {
    const { client, command: Command } = service(operation, region)
    return client.send(new Command(input))
  },
  async pages (operation, region, input, size) {
    const { sdk, client, name } = service(operation, region)
    const all = []
    for await (const page of sdk[`paginate${name}`]({ client, pageSize: size }, input)) all.push(page)
    return all
  },
  refused (error) {
    const sdk = error instanceof kms.KMSServiceException ? kms : error instanceof sts.STSServiceException ? sts : undefined
    if (!sdk) return undefined
    const modelled = sdk[error.name] && error instanceof sdk[error.name]
    return { code: error.Code ?? error.name, class: modelled ? error.name : 'ServiceException', message: error.message }
  }
})
