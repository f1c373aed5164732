// Renders conversations with a template as Ollama does: Go's text/template, on values of these shapes.
//
//	go run ollama.go TEMPLATE < cases.json > texts.json
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"text/template"
)

// Object is JSON that prints as such, without spaces.
type Object json.RawMessage

func (o *Object) UnmarshalJSON(data []byte) error {
	var compact bytes.Buffer
	err := json.Compact(&compact, data)
	*o = compact.Bytes()
	return err
}

func (o Object) String() string { return string(o) }

type Function struct {
	Name      string
	Arguments Object
}

type ToolCall struct{ Function Function }

type Message struct {
	Role, Content, Thinking string
	ToolCalls               []ToolCall
}

type Tool struct{ Function Object }

type Case struct {
	Messages          []*Message
	Tools             []Tool
	Think, IsThinkSet bool
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	source, err := os.ReadFile(os.Args[1])
	check(err)
	parsed, err := template.New("").Option("missingkey=zero").Parse(string(source))
	check(err)
	var cases []Case
	check(json.NewDecoder(os.Stdin).Decode(&cases))
	texts := []string{}
	for _, c := range cases {
		var text bytes.Buffer
		check(parsed.Execute(&text, map[string]any{
			"Messages": c.Messages, "Tools": c.Tools, "Think": c.Think, "IsThinkSet": c.IsThinkSet, "Response": "",
		}))
		texts = append(texts, text.String())
	}
	check(json.NewEncoder(os.Stdout).Encode(texts))
}
