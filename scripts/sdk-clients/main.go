// Command go-client leads the life of one resource of each service with AWS SDK for Go v2, and prints what it saw as JSON.
//
// With the argument "identity", it prints who the default credentials are. The tests run it against the emulator; as in
// every program that uses the SDK, environment variables name the endpoint, the region and the credentials.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	ekstypes "github.com/aws/aws-sdk-go-v2/service/eks/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

const (
	trust = `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":{"AWS":"123456789012"},"Action":"sts:AssumeRole"},
		{"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}]}`
	policy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ec2:DescribeVolumes","Resource":"*"}]}`
	none   = "vol-0123456789abcdef0"
)

var (
	ctx     = context.Background()
	patient = 30 * time.Second
)

type seen map[string]any

func main() {
	cfg := must(config.LoadDefaultConfig(ctx, config.WithRetryMaxAttempts(1)))
	if len(os.Args) > 1 && os.Args[1] == "identity" {
		fmt.Println(identity(cfg))
		return
	}
	role := createRole(cfg)
	report := seen{
		"iam":       useIam(cfg),
		"sts":       useSts(cfg, role),
		"kms":       useKms(cfg, role),
		"eks":       useEks(cfg, role),
		"ec2":       useEc2(cfg),
		"sagemaker": useSageMaker(cfg),
	}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		panic(err)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

// code returns the code of an error that a service answered.
func code(_ any, err error) string {
	var answered smithy.APIError
	if errors.As(err, &answered) {
		return answered.ErrorCode()
	}
	return fmt.Sprint(err)
}

func identity(cfg aws.Config) string {
	return *must(sts.NewFromConfig(cfg).GetCallerIdentity(ctx, nil)).Arn
}

func createRole(cfg aws.Config) string {
	client := iam.NewFromConfig(cfg)
	role := must(client.CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String("lives"), AssumeRolePolicyDocument: aws.String(trust)}))
	made := must(client.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: aws.String("describe"), PolicyDocument: aws.String(policy)}))
	must(client.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: aws.String("lives"), PolicyArn: made.Policy.Arn}))
	return *role.Role.Arn
}

func useIam(cfg aws.Config) seen {
	client := iam.NewFromConfig(cfg)
	pages := iam.NewListAttachedRolePoliciesPaginator(client, &iam.ListAttachedRolePoliciesInput{RoleName: aws.String("lives")})
	attached := must(pages.NextPage(ctx)).AttachedPolicies
	return seen{
		"role":     *must(client.GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String("lives")})).Role.Arn,
		"attached": *attached[0].PolicyName,
		"error":    code(client.GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String("nobody")})),
	}
}

func useSts(cfg aws.Config, role string) seen {
	session := cfg.Copy()
	named := func(options *stscreds.AssumeRoleOptions) { options.RoleSessionName = "me" }
	session.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), role, named))
	volumes := must(ec2.NewFromConfig(session).DescribeVolumes(ctx, nil)).Volumes
	return seen{
		"user":    identity(cfg),
		"session": identity(session),
		"allowed": len(volumes),
		"denied":  code(kms.NewFromConfig(session).ListKeys(ctx, nil)),
		"error":   code(ec2.NewFromConfig(session).DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: aws.String(none)})),
	}
}

func useKms(cfg aws.Config, role string) seen {
	client := kms.NewFromConfig(cfg)
	key := must(client.CreateKey(ctx, nil)).KeyMetadata.KeyId
	alias := aws.String("alias/lives")
	must(client.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: alias, TargetKeyId: key}))
	context := map[string]string{"aws:ebs:id": "vol-1"}
	sealed := must(client.Encrypt(ctx, &kms.EncryptInput{KeyId: alias, Plaintext: []byte("hello"), EncryptionContext: context}))
	opened := must(client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: context}))
	data := must(client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: key, KeySpec: kmstypes.DataKeySpecAes256}))
	grant := must(client.CreateGrant(ctx, &kms.CreateGrantInput{
		KeyId:            key,
		GranteePrincipal: aws.String(role),
		Operations:       []kmstypes.GrantOperation{kmstypes.GrantOperationDecrypt},
	}))
	grants := must(client.ListGrants(ctx, &kms.ListGrantsInput{KeyId: key})).Grants
	must(client.RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: key, GrantId: grant.GrantId}))
	left := must(client.ListGrants(ctx, &kms.ListGrantsInput{KeyId: key})).Grants
	wrong := code(client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob}))
	deleted := must(client.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: key}))
	return seen{
		"opened":  string(opened.Plaintext),
		"dataKey": len(data.Plaintext),
		"grants":  []int{len(grants), len(left)},
		"state":   deleted.KeyState,
		"error":   wrong,
	}
}

func useEks(cfg aws.Config, role string) seen {
	client := eks.NewFromConfig(cfg)
	name := aws.String("lives")
	must(client.CreateCluster(ctx, &eks.CreateClusterInput{Name: name, RoleArn: aws.String(role), ResourcesVpcConfig: &ekstypes.VpcConfigRequest{}}))
	described := &eks.DescribeClusterInput{Name: name}
	cluster := must(eks.NewClusterActiveWaiter(client).WaitForOutput(ctx, described, patient)).Cluster
	made := must(client.CreatePodIdentityAssociation(ctx, &eks.CreatePodIdentityAssociationInput{
		ClusterName: name, Namespace: aws.String("kube-system"), ServiceAccount: aws.String("ebs"), RoleArn: aws.String(role),
	})).Association
	listed := must(client.ListPodIdentityAssociations(ctx, &eks.ListPodIdentityAssociationsInput{ClusterName: name})).Associations
	must(client.DeletePodIdentityAssociation(ctx, &eks.DeletePodIdentityAssociationInput{ClusterName: name, AssociationId: made.AssociationId}))
	must(client.DeleteCluster(ctx, &eks.DeleteClusterInput{Name: name}))
	return seen{
		"status":       cluster.Status,
		"issuer":       *cluster.Identity.Oidc.Issuer != "",
		"associations": []string{*listed[0].Namespace, *listed[0].ServiceAccount},
		"error":        code(client.DescribeCluster(ctx, &eks.DescribeClusterInput{Name: aws.String("nowhere")})),
	}
}

func useEc2(cfg aws.Config) seen {
	client := ec2.NewFromConfig(cfg)
	made := must(client.CreateVolume(ctx, &ec2.CreateVolumeInput{
		AvailabilityZone: aws.String("us-west-2a"), Size: aws.Int32(1), VolumeType: ec2types.VolumeTypeGp3,
	}))
	byId := &ec2.DescribeVolumesInput{VolumeIds: []string{*made.VolumeId}}
	volumes := must(ec2.NewVolumeAvailableWaiter(client).WaitForOutput(ctx, byId, patient)).Volumes
	must(client.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: made.VolumeId}))
	return seen{
		"state": volumes[0].State,
		"error": code(client.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: aws.String(none)})),
	}
}

func useSageMaker(cfg aws.Config) seen {
	client := sagemaker.NewFromConfig(cfg)
	return seen{
		"clusters": len(must(client.ListClusters(ctx, nil)).ClusterSummaries),
		"error":    code(client.DescribeCluster(ctx, &sagemaker.DescribeClusterInput{ClusterName: aws.String("nowhere")})),
	}
}
