// Command tuf-client asks go-tuf for a second opinion about a TUF repository.
//
// It refreshes, looks up each target, downloads it and prints one JSON document, on
// failure too. tests/peers/README.md describes the arguments and the answer, which
// tuf_client.js shares.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/fetcher"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"
)

type found struct {
	Path   string `json:"path"`
	Length int64  `json:"length"`
	Sha256 string `json:"sha256"`
	File   string `json:"file"`
}

type answer struct {
	Ok       bool             `json:"ok"`
	Error    string           `json:"error,omitempty"`
	Versions map[string]int64 `json:"versions"`
	Targets  []found          `json:"targets"`
}

type request struct {
	root, metadata, targets, state, out string
	names                               []string
}

func main() {
	var ask request
	flag.StringVar(&ask.root, "root", "", "trusted root file")
	flag.StringVar(&ask.metadata, "metadata-url", "", "URL of the metadata directory")
	flag.StringVar(&ask.targets, "targets-url", "", "URL of the targets directory")
	flag.StringVar(&ask.state, "state", "", "directory of trusted metadata, kept")
	flag.StringVar(&ask.out, "out", "", "directory for the downloaded targets")
	flag.Parse()
	ask.names = flag.Args()

	said := answer{Versions: map[string]int64{}, Targets: []found{}}
	err := run(ask, &said)
	if err != nil {
		said.Error = err.Error()
	}
	said.Ok = err == nil
	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil || !said.Ok {
		os.Exit(1)
	}
}

func run(ask request, said *answer) error {
	if ask.root == "" || ask.metadata == "" || ask.targets == "" ||
		ask.state == "" || ask.out == "" {
		return errors.New("--root, --metadata-url, --targets-url, --state and --out are needed")
	}
	root, err := os.ReadFile(filepath.Join(ask.state, "root.json"))
	if errors.Is(err, os.ErrNotExist) {
		root, err = os.ReadFile(ask.root)
	}
	if err != nil {
		return err
	}
	settings, err := config.New(ask.metadata, root)
	if err != nil {
		return err
	}
	settings.LocalMetadataDir = ask.state
	settings.LocalTargetsDir = ask.out
	settings.RemoteTargetsURL = ask.targets
	// The default fetcher tries once but waits for ever.
	patient := fetcher.NewDefaultFetcher()
	patient.SetHTTPClient(&http.Client{Timeout: 10 * time.Second})
	settings.Fetcher = patient

	client, err := updater.New(settings)
	if err != nil {
		return err
	}
	if err := client.Refresh(); err != nil {
		return fmt.Errorf("refresh: %w", err)
	}
	for number, name := range ask.names {
		target, err := download(client, ask.out, number, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		said.Targets = append(said.Targets, *target)
	}
	trusted := client.GetTrustedMetadataSet()
	said.Versions["root"] = trusted.Root.Signed.Version
	said.Versions["timestamp"] = trusted.Timestamp.Signed.Version
	said.Versions["snapshot"] = trusted.Snapshot.Signed.Version
	for role, metadata := range trusted.Targets {
		said.Versions[role] = metadata.Signed.Version
	}
	return nil
}

func download(
	client *updater.Updater, out string, number int, name string,
) (*found, error) {
	target, err := client.GetTargetInfo(name)
	if err != nil {
		return nil, err
	}
	file, _, err := client.DownloadTarget(
		target, filepath.Join(out, fmt.Sprintf("%d.target", number)), "")
	if err != nil {
		return nil, err
	}
	return &found{
		Path:   name,
		Length: target.Length,
		Sha256: target.Hashes["sha256"].String(),
		File:   file,
	}, nil
}
