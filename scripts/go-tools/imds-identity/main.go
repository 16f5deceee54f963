// Command imds-identity prints the id, type, zone and region that the instance metadata service gives to AWS SDK for Go v2.
//
// The tests run it against the emulator. As in every program that uses the SDK, AWS_EC2_METADATA_SERVICE_ENDPOINT names
// the service.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
)

func main() {
	answer, err := imds.New(imds.Options{}).GetInstanceIdentityDocument(context.Background(), nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(answer.InstanceID, answer.InstanceType, answer.AvailabilityZone, answer.Region)
}
