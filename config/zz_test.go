package config
import ("testing";"strings";"time")
func TestZZ(t *testing.T){ for _,o:=range []string{"[","{a: ","- ","a: 1\n","k: &a ", "# c\n"} { for _,n:=range []int{32000,128000} {s:=time.Now(); _,err:=Parse("c",[]byte(strings.Repeat(o,n/len(o))),Lookup{}); t.Log(o,n,time.Since(s),len(err.Error())) }}
 s:=time.Now(); _,err:=Parse("c",[]byte(strings.Repeat("[",250000)),Lookup{}); t.Log(time.Since(s),len(err.Error())) 
 // realistic big
 big:="frontends:\n"; for i:=0;i<300;i++{ big+="  - url: https://a"+string(rune('a'+i%26))+".example.com\n    providers:\n      - {issuer: \"https://op.example.com/\", client_id: app, client_secret: hunter2}\n    routes:\n"; for j:=0;j<5;j++{big+="      - {path: /, upstream: \"http://127.0.0.1:3000\"}\n"}}
 s=time.Now(); Parse("c",[]byte(big),Lookup{}); t.Log("realistic",len(big),time.Since(s))
}
