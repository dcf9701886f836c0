// Go's own HTTP server: answers every request and writes a line for each.
//
//	go-server ADDRESS
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
)

func main() {
	answer := func(w http.ResponseWriter, r *http.Request) {
		// A body that breaks off is a request all the same.
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Println(r.Method, r.RequestURI)
		w.Header().Set("X-Seen", r.Method+" "+r.RequestURI)
		if r.Method == http.MethodConnect {
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
		_, _ = io.WriteString(w, "ok\n")
	}
	server := http.Server{
		Addr: os.Args[1],
		// No ServeMux: it redirects paths that it finds untidy.
		Handler: http.HandlerFunc(answer),
		// OPTIONS * is a request like any other.
		DisableGeneralOptionsHandler: true,
	}
	log.Fatal(server.ListenAndServe())
}
