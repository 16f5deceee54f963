#!/bin/sh
# Attach an encrypted volume to a HyperPod node with the AWS CLI alone. Each step is tried without a permission that it
# needs, which AWS refuses, and then with it.
#
#   attach.sh                 on the embedded cloud, which the script starts and deletes; needs root
#   CLUSTER=NAME attach.sh    on AWS: on a HyperPod cluster that you have, with the credentials of an administrator
# shellcheck disable=SC2016 # the commands on the node are expanded there
set -eu
export AWS_PAGER='' AWS_DEFAULT_OUTPUT=text
ROLE=by-hand

say() { printf '%s\n' "$*"; }

fail() {
    say "attach.sh: $*" >&2
    exit 1
}

# ---- The two callers: an administrator, whose credentials the environment has, and the role

# as_role COMMAND...: run the command with the role's credentials
as_role() {
    AWS_ACCESS_KEY_ID=$role_id AWS_SECRET_ACCESS_KEY=$role_secret AWS_SESSION_TOKEN=$role_token "$@"
}

# show COMMAND...: print the command, if it is another one than before
show() {
    if [ "$*" = "$shown" ]; then say "The same call again:"; else say "\$ $*"; fi
    shown=$*
}

# refused TEXT COMMAND...: run the command until AWS refuses it with this text: a change of a policy takes seconds on AWS
refused() {
    text=$1
    shift
    show "$@"
    tries=0
    while true; do
        if answer=$("$@" 2>&1); then fail "this call was to be refused, and AWS allowed it"; fi
        case $answer in *"$text"*) break ;; esac
        tries=$((tries + 1))
        [ "$tries" -lt 30 ] || fail "AWS refuses this call for another reason: $answer"
        sleep 2
    done
    # An encoded message is for `aws sts decode-authorization-message`.
    say "$answer" | sed -e '/^$/d' -e 's/\(Encoded authorization failure message: \)[A-Za-z0-9_=-]*/\1…/'
}

# allowed COMMAND...: run the command until AWS allows it; its output is then in $answer
allowed() {
    show "$@"
    tries=0
    until answer=$("$@" 2>&1); do
        tries=$((tries + 1))
        [ "$tries" -lt 30 ] || fail "AWS still refuses this call: $answer"
        sleep 2
    done
}

# allow ACTION RESOURCE: add a statement to the role's policy
allow() {
    statement="{\"Effect\": \"Allow\", \"Action\": \"$1\", \"Resource\": \"$2\"}"
    say "Added to the policy of the role: $statement"
    statements="$statements${statements:+, }$statement"
    aws iam put-role-policy --role-name $ROLE --policy-name by-hand \
        --policy-document "{\"Version\": \"2012-10-17\", \"Statement\": [$statements]}"
}

# set_key_policy [STATEMENT]...: let the administrators, and whom the statements name, use the key
set_key_policy() {
    key_statements="{\"Effect\": \"Allow\", \"Principal\": {\"AWS\": \"arn:aws:iam::$account:root\"},
        \"Action\": \"kms:*\", \"Resource\": \"*\"}"
    for statement; do
        say "Added to the policy of the key: $statement"
        key_statements="$key_statements, $statement"
    done
    aws kms put-key-policy --key-id "$key" \
        --policy "{\"Version\": \"2012-10-17\", \"Id\": \"key-default-1\", \"Statement\": [$key_statements]}"
}

# ---- The node

# on_node COMMAND: run a shell command on the node, as root; $DEVICE and $DIRECTORY have a value there
on_node() {
    say "node# $1"
    if [ -n "$state" ]; then
        DEVICE="$device" DIRECTORY="$directory" sh -c "$1"
    else
        say "Run this on the node: aws ssm start-session --target sagemaker-cluster:${cluster##*/}_$group-$node"
        say "Then press Enter."
        read -r _
    fi
}

# ---- Clean-up, also after an error and after Ctrl-C

shown='' role='' key='' volume='' attached='' mounted='' emulator='' state=''
work=$(mktemp -d)

clean_up() {
    trap '' INT TERM HUP
    set +e
    say "== Clean up"
    if [ -n "$mounted" ]; then on_node 'umount $DIRECTORY'; fi
    if [ -n "$attached" ]; then
        aws sagemaker detach-cluster-node-volume --cluster-arn "$cluster" --node-id "$node" --volume-id "$volume" >/dev/null
        aws ec2 wait volume-available --volume-ids "$volume"
    fi
    if [ -n "$volume" ]; then aws ec2 delete-volume --volume-id "$volume"; fi
    if [ -n "$key" ]; then
        aws kms schedule-key-deletion --key-id "$key" --pending-window-in-days 7 >/dev/null
    fi
    if [ -n "$statements" ]; then aws iam delete-role-policy --role-name $ROLE --policy-name by-hand; fi
    if [ -n "$role" ]; then aws iam delete-role --role-name $ROLE; fi
    if [ -n "$emulator" ]; then
        kill "$emulator"
        wait "$emulator"
        hyperpod-ebs emulator reset --state "$state"
    fi
    rm -rf --one-file-system "$work"
}

statements=''
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

if [ -z "${CLUSTER:-}" ]; then
    state=$work/cloud
    unset AWS_PROFILE AWS_SESSION_TOKEN
    # In a session of its own, so that Ctrl-C does not end it before the clean-up.
    setsid hyperpod-ebs emulator run --state "$state" --port 0 >"$work/log" 2>&1 &
    emulator=$!
    until hyperpod-ebs emulator status --state "$state" >/dev/null 2>&1; do
        kill -0 "$emulator" 2>/dev/null || fail "the embedded cloud does not start: $(cat "$work/log")"
        sleep 0.2
    done
    eval "$(hyperpod-ebs emulator env --state "$state")"
fi
region=${AWS_REGION:-$(aws configure get region)}
account=$(aws sts get-caller-identity --query Account)

say "== 1 The role, which its trust policy must allow the caller to assume"
trust() {
    say "{\"Version\": \"2012-10-17\", \"Statement\": [
        {\"Effect\": \"Allow\", \"Principal\": {$1}, \"Action\": \"sts:AssumeRole\"}]}"
}
role=$(aws iam create-role --role-name $ROLE --query Role.Arn \
    --assume-role-policy-document "$(trust '"Service": "sagemaker.amazonaws.com"')")
refused sts:AssumeRole aws sts assume-role --role-arn "$role" --role-session-name reader
say "Named in the trust policy of the role: the account"
aws iam update-assume-role-policy --role-name $ROLE --policy-document "$(trust "\"AWS\": \"arn:aws:iam::$account:root\"")"
allowed aws sts assume-role --role-arn "$role" --role-session-name reader \
    --query 'Credentials.[AccessKeyId,SecretAccessKey,SessionToken]'
read -r role_id role_secret role_token <<EOF
$answer
EOF

say "== 2 The cluster"
if [ -n "${CLUSTER:-}" ]; then
    cluster=$(aws sagemaker describe-cluster --cluster-name "$CLUSTER" --query ClusterArn)
else
    eks=$(aws eks create-cluster --name training --role-arn "arn:aws:iam::$account:role/eks" --resources-vpc-config '{}' \
        --query cluster.arn)
    set -- as_role aws sagemaker create-cluster --cluster-name training --orchestrator "Eks={ClusterArn=$eks}" \
        --instance-groups "InstanceGroupName=workers,InstanceType=ml.g5.8xlarge,InstanceCount=1,\
ExecutionRole=arn:aws:iam::$account:role/hyperpod,LifeCycleConfig={SourceS3Uri=s3://sagemaker-training,OnCreate=on_create.sh}"
    refused sagemaker:CreateCluster "$@"
    allow sagemaker:CreateCluster "arn:aws:sagemaker:$region:$account:cluster/*"
    refused iam:PassRole "$@"
    allow iam:PassRole "arn:aws:iam::$account:role/hyperpod"
    allowed "$@"
    cluster=$answer
fi
eks=$(aws sagemaker describe-cluster --cluster-name "$cluster" --query Orchestrator.Eks.ClusterArn)
node=$(aws sagemaker list-cluster-nodes --cluster-name "$cluster" --query 'ClusterNodeSummaries[0].InstanceId')
read -r group zone <<EOF
$(aws sagemaker describe-cluster-node --cluster-name "$cluster" --node-id "$node" \
    --query 'NodeDetails.[InstanceGroupName,Placement.AvailabilityZone]')
EOF

say "== 3 A volume under a customer-managed key"
key=$(aws kms create-key --query KeyMetadata.Arn)
via_ec2="\"kms:ViaService\": \"ec2.$region.amazonaws.com\""
set -- as_role aws ec2 create-volume --availability-zone "$zone" --size 1 --encrypted --kms-key-id "$key" --query VolumeId
refused ec2:CreateVolume "$@"
allow ec2:CreateVolume "arn:aws:ec2:$region:$account:volume/*"
allowed "$@"
say "EC2 has accepted volume $answer, and removes it again: its key is not allowed to encrypt for the role"
refused InvalidVolume.NotFound aws ec2 describe-volumes --volume-ids "$answer"
set_key_policy "{\"Effect\": \"Allow\", \"Principal\": {\"AWS\": \"$role\"},
    \"Action\": [\"kms:GenerateDataKeyWithoutPlaintext\", \"kms:Decrypt\"], \"Resource\": \"*\",
    \"Condition\": {\"StringEquals\": {$via_ec2}}}"
allowed "$@"
volume=$answer
aws ec2 wait volume-available --volume-ids "$volume"
say "Volume $volume is available"

say "== 4 Attach the volume to the node"
set -- as_role aws sagemaker attach-cluster-node-volume --cluster-arn "$cluster" --node-id "$node" --volume-id "$volume" \
    --query Status
refused sagemaker:AttachClusterNodeVolume "$@"
allow sagemaker:AttachClusterNodeVolume "arn:aws:sagemaker:$region:$account:cluster/*"
refused eks:DescribeCluster "$@"
allow eks:DescribeCluster "$eks"
refused ec2:AttachVolume "$@"
allow ec2:AttachVolume "arn:aws:ec2:$region:$account:volume/*"
refused CustomerKeyHasBeenRevoked "$@"
set_key_policy "{\"Effect\": \"Allow\", \"Principal\": {\"AWS\": \"$role\"},
    \"Action\": \"kms:DescribeKey\", \"Resource\": \"*\"}" \
    "{\"Effect\": \"Allow\", \"Principal\": {\"AWS\": \"$role\"}, \"Action\": \"kms:CreateGrant\", \"Resource\": \"*\",
    \"Condition\": {\"StringEquals\": {\"kms:CallerAccount\": \"$account\", $via_ec2},
        \"ForAnyValue:StringEquals\": {\"kms:EncryptionContextKeys\": \"aws:ebs:id\"},
        \"Bool\": {\"kms:GrantIsForAWSResource\": true},
        \"ForAllValues:StringEquals\": {\"kms:GrantOperations\": [\"Decrypt\"]}}}"
attached=yes
allowed "$@"
say "$answer"
aws ec2 wait volume-in-use --volume-ids "$volume"

say "== 5 Make a filesystem, mount it and write"
device=${state:+$state/nodes/$node}/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_$(say "$volume" | tr -d -)
directory=${state:+$work}/mnt/$ROLE
say "node# DEVICE=$device DIRECTORY=$directory"
say "An ordinary user may not format the device, and root may:"
on_node '! setpriv --reuid=65534 --regid=65534 --clear-groups mkfs.ext4 -q $DEVICE'
on_node 'blkid $DEVICE || mkfs.ext4 -q $DEVICE'
mounted=yes
on_node 'mkdir -p $DIRECTORY && mount $DEVICE $DIRECTORY'
on_node 'echo "step 1000" >$DIRECTORY/checkpoint && sync $DIRECTORY/checkpoint && cat $DIRECTORY/checkpoint'
on_node 'umount $DIRECTORY'
mounted=''

say "== 6 Detach the volume, which needs no key"
set_key_policy
set -- as_role aws sagemaker detach-cluster-node-volume --cluster-arn "$cluster" --node-id "$node" --volume-id "$volume" \
    --query Status
refused sagemaker:DetachClusterNodeVolume "$@"
allow sagemaker:DetachClusterNodeVolume "arn:aws:sagemaker:$region:$account:cluster/*"
refused ec2:DetachVolume "$@"
allow ec2:DetachVolume "arn:aws:ec2:$region:$account:volume/*"
allowed "$@"
attached=''
say "$answer"
aws ec2 wait volume-available --volume-ids "$volume"
