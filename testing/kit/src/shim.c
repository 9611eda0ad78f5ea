/* A PKCS#11 module that hands every call on to a real one. It tells that one where its
 * configuration is, and does what the file RULE says, `FUNCTION hang` (until the file goes) or
 * `FUNCTION CODE TIMES`, instead of the call. Each C_Login, and each C_Decrypt that is to give a
 * result and not only its length, leaves a line in the file CALLS.
 *
 * Compiled by the tests with REAL, VARIABLE, CONFIG, RULE and CALLS defined as strings.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long word;
typedef word (*function)(word, word, word, word, word, word, word, word);

/* CK_FUNCTION_LIST of PKCS#11 2.40: a version, then these functions. */
static const char *const names[] = {
    "C_Initialize", "C_Finalize", "C_GetInfo", "C_GetFunctionList", "C_GetSlotList",
    "C_GetSlotInfo", "C_GetTokenInfo", "C_GetMechanismList", "C_GetMechanismInfo", "C_InitToken",
    "C_InitPIN", "C_SetPIN", "C_OpenSession", "C_CloseSession", "C_CloseAllSessions",
    "C_GetSessionInfo", "C_GetOperationState", "C_SetOperationState", "C_Login", "C_Logout",
    "C_CreateObject", "C_CopyObject", "C_DestroyObject", "C_GetObjectSize", "C_GetAttributeValue",
    "C_SetAttributeValue", "C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal",
    "C_EncryptInit", "C_Encrypt", "C_EncryptUpdate", "C_EncryptFinal", "C_DecryptInit",
    "C_Decrypt", "C_DecryptUpdate", "C_DecryptFinal", "C_DigestInit", "C_Digest",
    "C_DigestUpdate", "C_DigestKey", "C_DigestFinal", "C_SignInit", "C_Sign", "C_SignUpdate",
    "C_SignFinal", "C_SignRecoverInit", "C_SignRecover", "C_VerifyInit", "C_Verify",
    "C_VerifyUpdate", "C_VerifyFinal", "C_VerifyRecoverInit", "C_VerifyRecover",
    "C_DigestEncryptUpdate", "C_DecryptDigestUpdate", "C_SignEncryptUpdate",
    "C_DecryptVerifyUpdate", "C_GenerateKey", "C_GenerateKeyPair", "C_WrapKey", "C_UnwrapKey",
    "C_DeriveKey", "C_SeedRandom", "C_GenerateRandom", "C_GetFunctionStatus", "C_CancelFunction",
    "C_WaitForSlotEvent",
};
enum { COUNT = sizeof names / sizeof names[0], C_LOGIN = 18, C_DECRYPT = 34 };

struct list {
    unsigned char version[2];
    function f[COUNT];
};

static struct list *real;
static struct list ours;

/* Whether the rule is about function n; then *code is what to answer. */
static int ruled(int n, word *code)
{
    char name[64] = "", what[32] = "";
    int times = 0;
    FILE *rule = fopen(RULE, "r");
    if (rule == NULL)
        return 0;
    int fields = fscanf(rule, "%63s %31s %d", name, what, &times);
    fclose(rule);
    if (fields < 2 || strcmp(name, names[n]) != 0)
        return 0;
    if (strcmp(what, "hang") == 0) {
        while (access(RULE, F_OK) == 0)
            usleep(5000);
        return 0;
    }
    *code = strtoul(what, NULL, 0);
    if (times <= 1) {
        unlink(RULE);
    } else if ((rule = fopen(RULE, "w")) != NULL) {
        fprintf(rule, "%s %s %d\n", name, what, times - 1);
        fclose(rule);
    }
    return 1;
}

static word through(int n, word a, word b, word c, word d, word e, word f, word g, word h)
{
    word code = 0;
    if (n == C_LOGIN || (n == C_DECRYPT && d != 0)) {
        FILE *calls = fopen(CALLS, "a");
        if (calls != NULL) {
            fprintf(calls, "%s\n", names[n]);
            fclose(calls);
        }
    }
    if (ruled(n, &code))
        return code;
    return real->f[n](a, b, c, d, e, f, g, h);
}

/* All arguments are words and travel in the same places, however many a function has. */
#define F(n)                                                                              \
    static word f##n(word a, word b, word c, word d, word e, word f, word g, word h)      \
    {                                                                                     \
        return through(n, a, b, c, d, e, f, g, h);                                        \
    }
#define TEN(m) m(0) m(1) m(2) m(3) m(4) m(5) m(6) m(7) m(8) m(9)
#define D1(n) F(1##n)
#define D2(n) F(2##n)
#define D3(n) F(3##n)
#define D4(n) F(4##n)
#define D5(n) F(5##n)
TEN(F) TEN(D1) TEN(D2) TEN(D3) TEN(D4) TEN(D5)
F(60) F(61) F(62) F(63) F(64) F(65) F(66) F(67)

word C_GetFunctionList(struct list **list)
{
#define P(n) f##n,
#define P1(n) f1##n,
#define P2(n) f2##n,
#define P3(n) f3##n,
#define P4(n) f4##n,
#define P5(n) f5##n,
    static const function all[COUNT] = {
        TEN(P) TEN(P1) TEN(P2) TEN(P3) TEN(P4) TEN(P5)
        f60, f61, f62, f63, f64, f65, f66, f67,
    };
    if (real == NULL) {
        setenv(VARIABLE, CONFIG, 1);
        void *library = dlopen(REAL, RTLD_NOW | RTLD_LOCAL);
        word (*get)(struct list **) =
            library == NULL ? NULL : (word (*)(struct list **))dlsym(library, "C_GetFunctionList");
        if (get == NULL || get(&real) != 0)
            return 5; /* CKR_GENERAL_ERROR */
        memcpy(ours.version, real->version, sizeof ours.version);
        memcpy(ours.f, all, sizeof all);
    }
    *list = &ours;
    return 0;
}
