// SPDX-License-Identifier: Apache-2.0

// Command libcni runs one verb of a network list with the reference implementation of a CNI runtime, libcni, as containerd and
// CRI-O do, and prints what came of it as one JSON object.
//
//	libcni -list 10-aws.conflist -bin DIR -cache DIR -id ID -netns PATH -ifname eth0 -args A=1;B=2 -capabilities JSON VERB
//
// Verbs: add, check, del, status, gc (-keep id/ifname,…|null|none), validate, version. It runs in the network namespace that it is started in,
// and passes its environment on to the plugins. What libcni does between the two (cache, prevResult, versions, order of a chain) is
// libcni's; nothing of it is done here. Exit code 0 also when the verb failed: the object says so.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// outcome is what is printed.
type outcome struct {
	// Result of an ADD, in the version of the list.
	Result types.Result `json:"result,omitempty"`
	// Parsed is the same, read by libcni's type of that version and converted to the newest one.
	Parsed *types100.Result `json:"parsed,omitempty"`
	// Version is the list's, as libcni chose it out of `cniVersions`.
	Version string `json:"version"`
	// Supported are the versions that the first plugin names, for `version`.
	Supported []string `json:"supported,omitempty"`
	// Capabilities of the plugins, for `validate`.
	Capabilities []string `json:"capabilities,omitempty"`
	Error        *failure `json:"error,omitempty"`
}

// failure is an error of libcni's, and the plugin's own error object where there is one in it.
type failure struct {
	Text   string       `json:"text"`
	Plugin *types.Error `json:"plugin,omitempty"`
}

type request struct {
	list, bin, cache, id, netns, ifname, args, capabilities, keep string
}

func main() {
	var r request
	flag.StringVar(&r.list, "list", "", "the network list, a file")
	flag.StringVar(&r.bin, "bin", "", "folder of the plugins")
	flag.StringVar(&r.cache, "cache", "", "folder of libcni's cache")
	flag.StringVar(&r.id, "id", "", "container id")
	flag.StringVar(&r.netns, "netns", "", "path of the pod's network namespace")
	flag.StringVar(&r.ifname, "ifname", "eth0", "name of the link in the pod")
	flag.StringVar(&r.args, "args", "", "CNI_ARGS")
	flag.StringVar(&r.capabilities, "capabilities", "{}", "capability arguments, a JSON object")
	flag.StringVar(&r.keep, "keep", "", "what GC keeps: id/ifname, separated by commas; null: a list that is nil; none: no list at all")
	flag.Parse()
	done, err := run(r, flag.Arg(0))
	if err != nil {
		done.Error = &failure{Text: err.Error()}
		var plugin *types.Error
		if errors.As(err, &plugin) {
			done.Error.Plugin = plugin
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(done); err != nil {
		fmt.Fprintln(os.Stderr, "libcni: printing the outcome:", err)
		os.Exit(1)
	}
}

func run(r request, verb string) (outcome, error) {
	var done outcome
	list, err := libcni.ConfListFromFile(r.list)
	if err != nil {
		return done, fmt.Errorf("reading %s: %w", r.list, err)
	}
	done.Version = list.CNIVersion
	attachment, err := r.attachment()
	if err != nil {
		return done, err
	}
	ctx, cni := context.Background(), libcni.NewCNIConfigWithCacheDir([]string{r.bin}, r.cache, nil)
	switch verb {
	case "add":
		if done.Result, err = cni.AddNetworkList(ctx, list, attachment); err == nil {
			done.Parsed, err = types100.NewResultFromResult(done.Result)
		}
	case "check":
		err = cni.CheckNetworkList(ctx, list, attachment)
	case "del":
		err = cni.DelNetworkList(ctx, list, attachment)
	case "status":
		err = cni.GetStatusNetworkList(ctx, list)
	case "gc":
		err = cni.GCNetworkList(ctx, list, r.kept())
	case "validate":
		done.Capabilities, err = cni.ValidateNetworkList(ctx, list)
	case "version":
		info, asked := cni.GetVersionInfo(ctx, list.Plugins[0].Network.Type)
		if err = asked; err == nil {
			done.Supported = info.SupportedVersions()
		}
	default:
		err = fmt.Errorf("no verb is called %q", verb)
	}
	return done, err
}

// attachment is what the verbs of a sandbox are about.
func (r request) attachment() (*libcni.RuntimeConf, error) {
	conf := &libcni.RuntimeConf{ContainerID: r.id, NetNS: r.netns, IfName: r.ifname}
	for _, pair := range strings.Split(r.args, ";") {
		if name, value, found := strings.Cut(pair, "="); found {
			conf.Args = append(conf.Args, [2]string{name, value})
		}
	}
	if err := json.Unmarshal([]byte(r.capabilities), &conf.CapabilityArgs); err != nil {
		return nil, fmt.Errorf("-capabilities: %w", err)
	}
	return conf, nil
}

// kept is the list of a GC. A runtime that means "nothing" must give an empty list: of a nil one libcni makes null, and of no
// arguments no list, which is another matter each.
func (r request) kept() *libcni.GCArgs {
	switch r.keep {
	case "none":
		return nil
	case "null":
		return &libcni.GCArgs{}
	}
	valid := []types.GCAttachment{}
	for _, one := range strings.Split(r.keep, ",") {
		if id, ifname, found := strings.Cut(one, "/"); found {
			valid = append(valid, types.GCAttachment{ContainerID: id, IfName: ifname})
		}
	}
	return &libcni.GCArgs{ValidAttachments: valid}
}
