// Command in-toto-peer asks in-toto-golang for a second opinion about layouts and links.
//
// It verifies what others wrote, and writes links and layouts for others to verify, in
// DSSE envelopes, and prints one JSON document, on failure too. tests/peers/README.md
// describes the arguments and the answer.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	intoto "github.com/in-toto/in-toto-golang/in_toto"
)

type answer struct {
	Ok       bool                      `json:"ok"`
	Error    string                    `json:"error,omitempty"`
	Keyid    string                    `json:"keyid,omitempty"`
	Products map[string]intoto.HashObj `json:"products,omitempty"`
}

type words []string

func (w *words) String() string { return strings.Join(*w, ",") }

func (w *words) Set(word string) error {
	*w = append(*w, word)
	return nil
}

func main() {
	said := answer{}
	err := run(os.Args[1:], &said)
	if err != nil {
		said.Error = err.Error()
	}
	said.Ok = err == nil
	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil || !said.Ok {
		os.Exit(1)
	}
}

func run(arguments []string, said *answer) error {
	if len(arguments) > 0 {
		switch arguments[0] {
		case "verify":
			return verify(arguments[1:], said)
		case "link":
			return link(arguments[1:], said)
		case "layout":
			return layout(arguments[1:], said)
		case "keyid":
			return keyid(arguments[1:], said)
		}
	}
	return errors.New("verify, link, layout or keyid is needed")
}

// verify asks InTotoVerify about a layout and the links beside it.
func verify(arguments []string, said *answer) error {
	flags := flag.NewFlagSet("verify", flag.ContinueOnError)
	file := flags.String("layout", "", "the layout's envelope")
	links := flags.String("links", "", "directory of STEP.KEYID8.link files")
	var keys words
	flags.Var(&keys, "key", "a public key that must have signed it, as JSON")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	metadata, err := intoto.LoadMetadata(*file)
	if err != nil {
		return err
	}
	known := map[string]intoto.Key{}
	for _, name := range keys {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		var key intoto.Key
		if err := json.Unmarshal(data, &key); err != nil {
			return err
		}
		known[key.KeyID] = key
	}
	summary, err := intoto.InTotoVerify(metadata, known, *links, "", nil, nil, false)
	if err != nil {
		return err
	}
	found, ok := summary.GetPayload().(intoto.Link)
	if !ok {
		return fmt.Errorf("the summary is a %T", summary.GetPayload())
	}
	said.Products = found.Products
	return nil
}

// link looks at files as in-toto-golang does and signs what it found.
func link(arguments []string, said *answer) error {
	flags := flag.NewFlagSet("link", flag.ContinueOnError)
	name := flags.String("name", "", "the step")
	out := flags.String("out", "", "where the envelope is written")
	pem := flags.String("key", "", "a private key, as PEM")
	scheme := flags.String("scheme", "ecdsa-sha2-nistp256", "of the key")
	base := flags.String("strip", "", "what is cut off in front of the names")
	var materials, products, algorithms words
	flags.Var(&materials, "material", "a file or directory")
	flags.Var(&products, "product", "a file or directory")
	flags.Var(&algorithms, "hash", "an algorithm; sha256 by default")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if len(algorithms) == 0 {
		algorithms = words{"sha256"}
	}
	var key intoto.Key
	if err := key.LoadKey(*pem, *scheme, []string{"sha256", "sha512"}); err != nil {
		return err
	}
	made, err := intoto.InTotoRun(*name, "", materials, products, flags.Args(), key,
		algorithms, nil, []string{*base}, false, false, true)
	if err != nil {
		return err
	}
	said.Keyid = key.KeyID
	return made.Dump(*out)
}

// layout puts a layout through in-toto-golang's own model and signs it.
func layout(arguments []string, said *answer) error {
	flags := flag.NewFlagSet("layout", flag.ContinueOnError)
	file := flags.String("layout", "", "the layout, as JSON")
	out := flags.String("out", "", "where the envelope is written")
	pem := flags.String("key", "", "a private key, as PEM")
	scheme := flags.String("scheme", "ecdsa-sha2-nistp256", "of the key")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	data, err := os.ReadFile(*file)
	if err != nil {
		return err
	}
	var parsed intoto.Layout
	if err := json.Unmarshal(data, &parsed); err != nil {
		return err
	}
	var key intoto.Key
	if err := key.LoadKey(*pem, *scheme, []string{"sha256", "sha512"}); err != nil {
		return err
	}
	envelope := intoto.Envelope{}
	if err := envelope.SetPayload(parsed); err != nil {
		return err
	}
	if err := envelope.Sign(key); err != nil {
		return err
	}
	said.Keyid = key.KeyID
	return envelope.Dump(*out)
}

// keyid says under which id in-toto-golang knows a public key.
func keyid(arguments []string, said *answer) error {
	flags := flag.NewFlagSet("keyid", flag.ContinueOnError)
	pem := flags.String("key", "", "a public key, as PEM")
	scheme := flags.String("scheme", "ecdsa-sha2-nistp256", "of the key")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	var key intoto.Key
	if err := key.LoadKey(*pem, *scheme, []string{"sha256", "sha512"}); err != nil {
		return err
	}
	said.Keyid = key.KeyID
	return nil
}
