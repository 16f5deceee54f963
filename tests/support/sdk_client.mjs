// Lead the life of one resource of each service with AWS SDK for JavaScript v3, and print what it saw as JSON.
// With the argument "identity", print who the default credentials are. scripts/sdk-clients/main.go does the same in Go.
import * as ec2 from '@aws-sdk/client-ec2'
import * as eks from '@aws-sdk/client-eks'
import * as iam from '@aws-sdk/client-iam'
import * as kms from '@aws-sdk/client-kms'
import * as sagemaker from '@aws-sdk/client-sagemaker'
import * as sts from '@aws-sdk/client-sts'

const TRUST = {
  Version: '2012-10-17',
  Statement: [
    { Effect: 'Allow', Principal: { AWS: '123456789012' }, Action: 'sts:AssumeRole' },
    { Effect: 'Allow', Principal: { Service: 'pods.eks.amazonaws.com' }, Action: ['sts:AssumeRole', 'sts:TagSession'] },
  ],
}
const POLICY = {
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Action: 'ec2:DescribeVolumes', Resource: '*' }],
}
const NONE = 'vol-0123456789abcdef0'
const options = { maxAttempts: 1 }
const clients = {
  ec2: new ec2.EC2Client(options),
  eks: new eks.EKSClient(options),
  iam: new iam.IAMClient(options),
  kms: new kms.KMSClient(options),
  sagemaker: new sagemaker.SageMakerClient(options),
  sts: new sts.STSClient(options),
}

// code: the code of the error that a call gets
const code = (call) => call.then(() => null, (error) => error.Code ?? error.name)

const identity = async (client) => (await client.send(new sts.GetCallerIdentityCommand({}))).Arn

async function createRole() {
  const role = { RoleName: 'lives', AssumeRolePolicyDocument: JSON.stringify(TRUST) }
  const created = await clients.iam.send(new iam.CreateRoleCommand(role))
  const policy = { PolicyName: 'describe', PolicyDocument: JSON.stringify(POLICY) }
  const made = await clients.iam.send(new iam.CreatePolicyCommand(policy))
  await clients.iam.send(new iam.AttachRolePolicyCommand({ RoleName: 'lives', PolicyArn: made.Policy.Arn }))
  return created.Role.Arn
}

async function useIam() {
  const pages = iam.paginateListAttachedRolePolicies({ client: clients.iam }, { RoleName: 'lives' })
  const { AttachedPolicies } = (await pages.next()).value
  return {
    role: (await clients.iam.send(new iam.GetRoleCommand({ RoleName: 'lives' }))).Role.Arn,
    attached: AttachedPolicies[0].PolicyName,
    error: await code(clients.iam.send(new iam.GetRoleCommand({ RoleName: 'nobody' }))),
  }
}

async function useSts(role) {
  const assumed = await clients.sts.send(new sts.AssumeRoleCommand({ RoleArn: role, RoleSessionName: 'me' }))
  const { AccessKeyId, SecretAccessKey, SessionToken } = assumed.Credentials
  const credentials = { accessKeyId: AccessKeyId, secretAccessKey: SecretAccessKey, sessionToken: SessionToken }
  const session = { ...options, credentials }
  const volumes = new ec2.EC2Client(session)
  return {
    user: await identity(clients.sts),
    session: await identity(new sts.STSClient(session)),
    allowed: ((await volumes.send(new ec2.DescribeVolumesCommand({}))).Volumes ?? []).length,
    denied: await code(new kms.KMSClient(session).send(new kms.ListKeysCommand({}))),
    error: await code(volumes.send(new ec2.DeleteVolumeCommand({ VolumeId: NONE }))),
  }
}

async function useKms(role) {
  const call = (command) => clients.kms.send(command)
  const { KeyId } = (await call(new kms.CreateKeyCommand({}))).KeyMetadata
  await call(new kms.CreateAliasCommand({ AliasName: 'alias/lives', TargetKeyId: KeyId }))
  const EncryptionContext = { 'aws:ebs:id': 'vol-1' }
  const Plaintext = new TextEncoder().encode('hello')
  const sealed = await call(new kms.EncryptCommand({ KeyId: 'alias/lives', Plaintext, EncryptionContext }))
  const { CiphertextBlob } = sealed
  const opened = await call(new kms.DecryptCommand({ CiphertextBlob, EncryptionContext }))
  const data = await call(new kms.GenerateDataKeyCommand({ KeyId, KeySpec: 'AES_256' }))
  const grant = { KeyId, GranteePrincipal: role, Operations: ['Decrypt'] }
  const { GrantId } = await call(new kms.CreateGrantCommand(grant))
  const { Grants: grants } = await call(new kms.ListGrantsCommand({ KeyId }))
  await call(new kms.RevokeGrantCommand({ KeyId, GrantId }))
  const { Grants: left } = await call(new kms.ListGrantsCommand({ KeyId }))
  const error = await code(call(new kms.DecryptCommand({ CiphertextBlob })))
  const deleted = await call(new kms.ScheduleKeyDeletionCommand({ KeyId }))
  return {
    opened: new TextDecoder().decode(opened.Plaintext),
    dataKey: data.Plaintext.length,
    grants: [grants.length, left.length],
    state: deleted.KeyState,
    error,
  }
}

async function useEks(roleArn) {
  const call = (command) => clients.eks.send(command)
  await call(new eks.CreateClusterCommand({ name: 'lives', roleArn, resourcesVpcConfig: {} }))
  await eks.waitUntilClusterActive({ client: clients.eks, maxWaitTime: 30, minDelay: 1, maxDelay: 1 }, { name: 'lives' })
  const { cluster } = await call(new eks.DescribeClusterCommand({ name: 'lives' }))
  const pods = { clusterName: 'lives', namespace: 'kube-system', serviceAccount: 'ebs', roleArn }
  const { associationId } = (await call(new eks.CreatePodIdentityAssociationCommand(pods))).association
  const { associations } = await call(new eks.ListPodIdentityAssociationsCommand({ clusterName: 'lives' }))
  await call(new eks.DeletePodIdentityAssociationCommand({ clusterName: 'lives', associationId }))
  await call(new eks.DeleteClusterCommand({ name: 'lives' }))
  return {
    status: cluster.status,
    issuer: cluster.identity.oidc.issuer !== '',
    associations: [associations[0].namespace, associations[0].serviceAccount],
    error: await code(call(new eks.DescribeClusterCommand({ name: 'nowhere' }))),
  }
}

async function useEc2() {
  const call = (command) => clients.ec2.send(command)
  const volume = { AvailabilityZone: 'us-west-2a', Size: 1, VolumeType: 'gp3' }
  const { VolumeId } = await call(new ec2.CreateVolumeCommand(volume))
  const byId = { VolumeIds: [VolumeId] }
  await ec2.waitUntilVolumeAvailable({ client: clients.ec2, maxWaitTime: 30, minDelay: 1, maxDelay: 1 }, byId)
  const { Volumes } = await call(new ec2.DescribeVolumesCommand(byId))
  await call(new ec2.DeleteVolumeCommand({ VolumeId }))
  return {
    state: Volumes[0].State,
    error: await code(call(new ec2.DeleteVolumeCommand({ VolumeId: NONE }))),
  }
}

async function useSageMaker() {
  const call = (command) => clients.sagemaker.send(command)
  return {
    clusters: (await call(new sagemaker.ListClustersCommand({}))).ClusterSummaries.length,
    error: await code(call(new sagemaker.DescribeClusterCommand({ ClusterName: 'nowhere' }))),
  }
}

if (process.argv[2] === 'identity') {
  console.log(await identity(clients.sts))
} else {
  const role = await createRole()
  const report = {
    iam: await useIam(),
    sts: await useSts(role),
    kms: await useKms(role),
    eks: await useEks(role),
    ec2: await useEc2(),
    sagemaker: await useSageMaker(),
  }
  console.log(JSON.stringify(report))
}
