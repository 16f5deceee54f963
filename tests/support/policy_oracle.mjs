// Decide cases with @cloud-copilot/iam-simulate: one JSON document in a line, one answer in a line.
// The library's runSimulation refuses policies that AWS accepts and ignores unknown condition keys, so the engine below
// it is called.
import { createInterface } from 'node:readline'
import { loadPolicy } from '@cloud-copilot/iam-policy'

const library = new URL('./node_modules/@cloud-copilot/iam-simulate/dist/esm/', import.meta.url)
const load = (path) => import(new URL(path, library))
const { DiscoveryContextKeyConstraints } = await load('context_keys/discoveryContextKeyConstraints.js')
const { authorize } = await load('core_engine/CoreSimulatorEngine.js')
const { AwsRequestImpl } = await load('request/request.js')
const { RequestContextImpl } = await load('requestContext.js')

const policies = (documents) => documents.map((document, index) => loadPolicy(document, { name: String(index) }))

for await (const line of createInterface({ input: process.stdin })) {
  const { principal, action, resource, account, context, identity, boundary, session, resourcePolicy } = JSON.parse(line)
  const { result } = authorize({
    request: new AwsRequestImpl(principal, { resource, accountId: account }, action, new RequestContextImpl(context)),
    identityPolicies: policies(identity),
    permissionBoundaries: boundary ? policies(boundary) : undefined,
    sessionPolicy: session ? policies(session)[0] : undefined,
    resourcePolicy: resourcePolicy ? policies([resourcePolicy])[0] : undefined,
    serviceControlPolicies: [],
    resourceControlPolicies: [],
    vpcEndpointPolicies: undefined,
    simulationParameters: {
      simulationMode: 'Strict',
      discoveryContextKeyConstraints: new DiscoveryContextKeyConstraints([]),
    },
    serviceSettings: { s3: {} },
  })
  process.stdout.write(`${result}\n`)
}
