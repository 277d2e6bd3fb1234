// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"flag"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"enid/wire/rpc"
)

// policyAgent takes pods on by name, and knows their links by the reference's hash of it.
type policyAgent struct {
	rpc.UnimplementedNPBackendServer
	refuses bool
	delay   time.Duration
}

// agent asks the daemon for the configuration, as the real one does at its start, and dies like it when there is none that it
// takes. Then it serves until it is killed.
func agent(arguments []string) error {
	flags := flag.NewFlagSet("agent", flag.ExitOnError)
	daemon := flags.String("daemon", "", "socket of the daemon that is asked for the configuration; empty: it is not")
	refuses := flags.Bool("refuse", false, "answer Success=false to each pod that is to be taken on")
	delay := flags.Duration("delay", 0, "how long it takes to take a pod on")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *daemon != "" {
		if err := configure(*daemon); err != nil {
			return err
		}
	}
	server := grpc.NewServer()
	rpc.RegisterNPBackendServer(server, &policyAgent{refuses: *refuses, delay: *delay})
	return serve(server, flags.Arg(0), 0o660)
}

func configure(socket string) error {
	connection, err := dial(socket)
	if err != nil {
		return err
	}
	defer connection.Close()
	limited, end := context.WithTimeout(context.Background(), 30*time.Second)
	defer end()
	reply, err := rpc.NewConfigServerBackendClient(connection).GetNetworkPolicyConfigs(limited, &emptypb.Empty{})
	exchange{Method: "GetNetworkPolicyConfigs"}.answered(reply, err).print()
	if err != nil {
		return fmt.Errorf("asking for the configuration: %w", err)
	}
	if mode := reply.NetworkPolicyMode; mode != "standard" && mode != "strict" {
		return fmt.Errorf("the daemon's policy mode is %q: neither standard nor strict", mode)
	}
	return nil
}

// EnforceNpToPod needs the pod's link: an agent that is asked before it is there has nothing to attach to.
func (a *policyAgent) EnforceNpToPod(_ context.Context, request *rpc.EnforceNpRequest) (*rpc.EnforceNpReply, error) {
	time.Sleep(a.delay)
	veth := hostVeth(request.K8S_POD_NAMESPACE, request.K8S_POD_NAME)
	reply := &rpc.EnforceNpReply{Success: veth != "" && !a.refuses}
	e := served("EnforceNpToPod", request, reply, nil)
	e.HostVeth = veth
	e.print()
	return reply, nil
}

// DeletePodNp of a pod that it does not have is fine.
func (a *policyAgent) DeletePodNp(_ context.Context, request *rpc.DeleteNpRequest) (*rpc.DeleteNpReply, error) {
	reply := &rpc.DeleteNpReply{Success: true}
	e := served("DeletePodNp", request, reply, nil)
	e.HostVeth = hostVeth(request.K8S_POD_NAMESPACE, request.K8S_POD_NAME)
	e.print()
	return reply, nil
}

// hostVeth is the name of the pod's link on this node, with the prefix that the agent has built in; empty when it is not there.
func hostVeth(namespace, pod string) string {
	sum := sha1.Sum([]byte(namespace + "." + pod))
	name := "eni" + hex.EncodeToString(sum[:])[:11]
	if _, err := net.InterfaceByName(name); err != nil {
		return ""
	}
	return name
}
