// Package tomlscan finds where things stand in a TOML file. The library that decodes the file gives
// values without their places; this package walks over the source and builds a tree of the same
// shape as the decoded values, with a byte offset for each.
//
// It decides nothing about validity and holds no values. Where the source is malformed it stops,
// and the decoder says why; where it knows less than the decoder, a value has the place of the
// table it is in.
//
// Source: TOML 1.0.0, and the newlines and commas that 1.1 allows in inline tables.
package tomlscan

import (
	"sort"
	"unicode/utf8"
)

// Result is what there is in a source. Offsets count bytes from the beginning of it.
type Result struct {
	Root Node
	// Duplicates are in the order of the source. They are not in the tree.
	Duplicates []Duplicate
	TooDeep    int // offset of nesting beyond the bounds; -1: none
	// End is the offset at which the scan stopped: the length of the source unless that is
	// malformed.
	End int
}

// Duplicate is a key, or a table with a header, that was there already.
type Duplicate struct {
	Name       string
	Table      bool
	First      int // offset of the first
	Start, End int // all bytes that say it again
}

// Node is the place of one value.
type Node struct {
	// Key is the offset of its key; of the brackets for a table with a header; of the value for an
	// element.
	Key int
	// Value is the offset of the value; equal to Key for a table with a header.
	Value    int
	Children map[string]*Node // of a table
	Elems    []*Node          // of a list, or of an array of tables

	tables  bool // an array of tables, made by [[headers]]: Elems are tables
	defined bool // by a header, or by an assignment; not only implied by a longer key
}

// Child returns the place of the value called name, or n itself where there is none.
func (n *Node) Child(name string) *Node {
	if c := n.Children[name]; c != nil {
		return c
	}
	return n
}

// Elem returns the place of the element at i, or n itself where there is none.
func (n *Node) Elem(i int) *Node {
	if i < len(n.Elems) {
		return n.Elems[i]
	}
	return n
}

// Put makes c the place of the value called name.
func (n *Node) Put(name string, c *Node) {
	if n.Children == nil {
		n.Children = make(map[string]*Node)
	}
	n.Children[name] = c
}

// open returns the table that name stands for as a part of a longer key, made where there is none:
// for an array of tables it is the last one.
func (n *Node) open(name string, at int) *Node {
	c := n.Children[name]
	if c == nil {
		c = &Node{Key: at, Value: at}
		n.Put(name, c)
	}
	if c.tables {
		c = c.Elems[len(c.Elems)-1]
	}
	return c
}

// Lines turns offsets into lines and columns.
type Lines struct {
	src    string
	starts []int
}

// NewLines makes the Lines of src.
func NewLines(src string) Lines {
	starts := []int{0}
	for i := range len(src) {
		if src[i] == '\n' {
			starts = append(starts, i+1)
		}
	}
	return Lines{src: src, starts: starts}
}

// Position returns the line and the column, in characters and both from 1, of the byte at offset.
func (l Lines) Position(offset int) (line, col int) {
	offset = max(0, min(offset, len(l.src)))
	for offset > 0 && offset < len(l.src) && !utf8.RuneStart(l.src[offset]) {
		offset-- // the TOML library points into the middle of characters now and then
	}
	line = sort.SearchInts(l.starts, offset+1)
	return line, 1 + utf8.RuneCountInString(l.src[l.starts[line-1]:offset])
}
