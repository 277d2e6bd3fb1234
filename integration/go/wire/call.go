// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"enid/wire/rpc"
)

// strange is a field that nobody has: a later version's, to a peer of this one.
const strange = 9999

// calls has an empty request and an empty reply for each method that may be called.
var calls = map[string][2]proto.Message{
	"/rpc.CNIBackend/AddNetwork":                       {&rpc.AddNetworkRequest{}, &rpc.AddNetworkReply{}},
	"/rpc.CNIBackend/DelNetwork":                       {&rpc.DelNetworkRequest{}, &rpc.DelNetworkReply{}},
	"/rpc.ConfigServerBackend/GetNetworkPolicyConfigs": {&emptypb.Empty{}, &rpc.NetworkPolicyAgentConfigReply{}},
	"/grpc.health.v1.Health/Check":                     {&grpc_health_v1.HealthCheckRequest{}, &grpc_health_v1.HealthCheckResponse{}},
}

// call makes one call without a deadline, as the reference's plugin does, with a field in the request that the server cannot know.
func call(arguments []string) error {
	if len(arguments) < 2 {
		return fmt.Errorf("call needs a socket and a method")
	}
	messages, known := calls[arguments[1]]
	if !known {
		return fmt.Errorf("no method is called %s", arguments[1])
	}
	request, reply := messages[0], messages[1]
	if len(arguments) > 2 {
		if err := protojson.Unmarshal([]byte(arguments[2]), request); err != nil {
			return fmt.Errorf("the request: %w", err)
		}
	}
	request.ProtoReflect().SetUnknown(strangeField())
	connection, err := dial(arguments[0])
	if err != nil {
		return err
	}
	defer connection.Close()
	err = connection.Invoke(context.Background(), arguments[1], request, reply)
	answer := exchange{Method: arguments[1], Unknown: unknownBytes(reply)}.answered(reply, err)
	answer.print()
	return nil
}

// dial does not wait: a server that is not there shows at the first call, as Unavailable.
func dial(socket string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

func strangeField() []byte {
	return protowire.AppendString(protowire.AppendTag(nil, strange, protowire.BytesType), "of a later version")
}
