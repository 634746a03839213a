/* SPDX-License-Identifier: Apache-2.0
 *
 * Puts keys that rise into etcd, through the member that leads, over one HTTP/2 connection. C++:
 * the language of gRPC's library.
 */
#include <grpcpp/grpcpp.h>

#include <cstdio>
#include <memory>
#include <string>

#include "etcd.grpc.pb.h"
#include "load.h"

namespace {

constexpr int kPollMs = 20;

struct Put {
    grpc::ClientContext context;
    etcdserverpb::PutResponse response;
    grpc::Status status;
    std::unique_ptr<grpc::ClientAsyncResponseReader<etcdserverpb::PutResponse>> reader;
    uint64_t stamp = 0;
};

void start(etcdserverpb::KV::Stub &stub, grpc::CompletionQueue &queue, uint32_t bytes)
{
    static uint64_t number;
    char key[24];
    snprintf(key, sizeof(key), "%020llu", static_cast<unsigned long long>(number++));
    etcdserverpb::PutRequest request;
    request.set_key(key);
    request.set_value(std::string(bytes, 'z'));
    auto *put = new Put;
    put->stamp = load_start();
    put->reader = stub.AsyncPut(&put->context, request, &queue);
    put->reader->Finish(&put->response, &put->status, put);
}

} // namespace

int main(int argc, char **argv)
{
    load_options options;
    load_begin(argc, argv, &options);
    auto channel = grpc::CreateChannel(options.address, grpc::InsecureChannelCredentials());
    auto stub = etcdserverpb::KV::NewStub(channel);
    grpc::CompletionQueue queue;
    while (!load_is_over()) {
        while (load_may_start())
            start(*stub, queue, options.size_bytes);
        void *tag;
        bool good;
        auto deadline = std::chrono::system_clock::now() + std::chrono::milliseconds(kPollMs);
        if (queue.AsyncNext(&tag, &good, deadline) != grpc::CompletionQueue::GOT_EVENT)
            continue;
        auto *put = static_cast<Put *>(tag);
        if (!put->status.ok())
            fprintf(stderr, "etcd: %s\n", put->status.error_message().c_str());
        load_end(put->stamp, good && put->status.ok());
        delete put;
    }
    return load_report();
}
