// SPDX-License-Identifier: Apache-2.0

// Command wire plays the peers that Enid takes the place of, or works beside, on the contract that they speak (reference.proto):
//
//	wire call SOCKET METHOD [JSON]    the reference's plugin, or a probe: one call, its answer printed
//	wire daemon FLAGS SOCKET          the reference's ipamd, for our plugin
//	wire agent FLAGS SOCKET           the network policy agent, for our plugin, asking our daemon
//
// The daemon keeps state as its original does. Both servers write a line of JSON for each call that they served to standard output: the
// method, the request, the answer, and how many bytes of fields they did not know were in the request.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func main() {
	roles := map[string]func([]string) error{"call": call, "daemon": daemon, "agent": agent}
	if len(os.Args) < 2 || roles[os.Args[1]] == nil {
		fail(fmt.Errorf("the first argument must be call, daemon or agent"))
	}
	if err := roles[os.Args[1]](os.Args[2:]); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "wire:", err)
	os.Exit(1)
}

// exchange is one call, as it is printed.
type exchange struct {
	Method  string          `json:"method,omitempty"`
	Request json.RawMessage `json:"request,omitempty"`
	Reply   json.RawMessage `json:"reply,omitempty"`
	// Code of gRPC, such as OK or FailedPrecondition.
	Code    string `json:"code"`
	Message string `json:"message,omitempty"`
	// Unknown is how many bytes of fields that reference.proto has not were in what the peer sent.
	Unknown int `json:"unknown"`
	// HostVeth is the link of the pod on this node when the agent was called.
	HostVeth string `json:"host_veth,omitempty"`
}

var printing sync.Mutex

// print writes one line, whole.
func (e exchange) print() {
	printing.Lock()
	defer printing.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(e); err != nil {
		fail(err)
	}
}

// served is the exchange of a call that this end answered.
func served(method string, request, reply proto.Message, err error) exchange {
	e := exchange{Method: method, Request: asJSON(request), Unknown: unknownBytes(request)}
	return e.answered(reply, err)
}

func (e exchange) answered(reply proto.Message, err error) exchange {
	answer := status.Convert(err)
	e.Code, e.Message = answer.Code().String(), answer.Message()
	if err == nil {
		e.Reply = asJSON(reply)
	}
	return e
}

// asJSON has the names of the .proto and every field, set or not.
func asJSON(message proto.Message) json.RawMessage {
	text, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(message)
	if err != nil {
		fail(err)
	}
	return text
}

// unknownBytes of a message and of all messages in it.
func unknownBytes(message proto.Message) int {
	reflected := message.ProtoReflect()
	count := len(reflected.GetUnknown())
	reflected.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.Message() == nil || field.IsMap():
		case field.IsList():
			for place := 0; place < value.List().Len(); place++ {
				count += unknownBytes(value.List().Get(place).Message().Interface())
			}
		default:
			count += unknownBytes(value.Message().Interface())
		}
		return true
	})
	return count
}
