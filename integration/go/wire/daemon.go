// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"net"
	"os"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"enid/wire/rpc"
)

// mainTable is where the primary ENI's pods are routed.
const mainTable = 254

// errUnknownPod is the text by which the reference's plugin knows that a DEL has nothing to do.
var errUnknownPod = errors.New("datastore: unknown pod")

// key is what an address is bound to.
type key struct{ network, container, link string }

// ipamd is the reference's daemon as its plugin sees it: addresses of the primary ENI, handed out by key.
type ipamd struct {
	rpc.UnimplementedCNIBackendServer
	rpc.UnimplementedConfigServerBackendServer
	version, mode string

	lock sync.Mutex
	free []string
	held map[key]string
}

// daemon serves until it is killed.
func daemon(arguments []string) error {
	flags := flag.NewFlagSet("daemon", flag.ExitOnError)
	addresses := flags.String("addresses", "", "the pool, separated by commas")
	version := flags.String("version", "", "its version, which a plugin must have too")
	mode := flags.String("mode", "", "NETWORK_POLICY_ENFORCING_MODE")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	self := &ipamd{version: *version, mode: *mode, held: map[key]string{}}
	if *addresses != "" {
		self.free = strings.Split(*addresses, ",")
	}
	server := grpc.NewServer()
	rpc.RegisterCNIBackendServer(server, self)
	rpc.RegisterConfigServerBackendServer(server, self)
	probes := health.NewServer()
	probes.SetServingStatus("grpc.health.v1.aws-node", grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(server, probes)
	return serve(server, flags.Arg(0), 0o660)
}

// serve listens at a socket that a process before it may have left.
func serve(server *grpc.Server, socket string, mode os.FileMode) error {
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	if err := os.Chmod(socket, mode); err != nil {
		return err
	}
	return server.Serve(listener)
}

// AddNetwork: ordinary failures are Success=false without a reason.
func (d *ipamd) AddNetwork(_ context.Context, request *rpc.AddNetworkRequest) (*rpc.AddNetworkReply, error) {
	reply, err := d.add(request)
	served("AddNetwork", request, reply, err).print()
	return reply, err
}

func (d *ipamd) add(request *rpc.AddNetworkRequest) (*rpc.AddNetworkReply, error) {
	if err := d.checkVersion(request.ClientVersion); err != nil {
		return nil, err
	}
	who := key{request.NetworkName, request.ContainerID, request.IfName}
	if who.network == "" || who.container == "" || who.link == "" || request.RequiresMultiNICAttachment {
		return &rpc.AddNetworkReply{}, nil
	}
	d.lock.Lock()
	defer d.lock.Unlock()
	address, held := d.held[who]
	if !held {
		if len(d.free) == 0 {
			return &rpc.AddNetworkReply{}, nil
		}
		address, d.free = d.free[0], d.free[1:]
		d.held[who] = address
	}
	reply := &rpc.AddNetworkReply{
		Success:              true,
		IPAllocationMetadata: metadata(address),
		VPCv4CIDRs:           []string{"10.0.0.0/16"},
		NetworkPolicyMode:    d.mode,
	}
	return withStrange(reply), nil
}

// DelNetwork of a key that it does not have is an RPC error, not Success=false.
func (d *ipamd) DelNetwork(_ context.Context, request *rpc.DelNetworkRequest) (*rpc.DelNetworkReply, error) {
	reply, err := d.del(request)
	served("DelNetwork", request, reply, err).print()
	return reply, err
}

func (d *ipamd) del(request *rpc.DelNetworkRequest) (*rpc.DelNetworkReply, error) {
	if err := d.checkVersion(request.ClientVersion); err != nil {
		return nil, err
	}
	who := key{request.NetworkName, request.ContainerID, request.IfName}
	d.lock.Lock()
	defer d.lock.Unlock()
	address, held := d.held[who]
	if !held {
		return nil, errUnknownPod
	}
	delete(d.held, who)
	d.free = append(d.free, address)
	reply := &rpc.DelNetworkReply{Success: true, IPAllocationMetadata: metadata(address), NetworkPolicyMode: d.mode}
	return withStrange(reply), nil
}

// GetNetworkPolicyConfigs gives the mode as it was written.
func (d *ipamd) GetNetworkPolicyConfigs(_ context.Context, _ *emptypb.Empty) (*rpc.NetworkPolicyAgentConfigReply, error) {
	return &rpc.NetworkPolicyAgentConfigReply{NetworkPolicyMode: d.mode}, nil
}

func (d *ipamd) checkVersion(client string) error {
	if client == d.version {
		return nil
	}
	return status.Errorf(codes.FailedPrecondition, "wrong client version %q (!= %q)", client, d.version)
}

func metadata(address string) []*rpc.IPAllocationMetadata {
	return []*rpc.IPAllocationMetadata{{IPv4Addr: address, RouteTableId: mainTable}}
}

// withStrange adds what a later version of the reference might.
func withStrange[M proto.Message](message M) M {
	message.ProtoReflect().SetUnknown(strangeField())
	return message
}
