#include "emulator.h"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <string>
#include <vector>

namespace emulator {
namespace {
constexpr size_t STACK = 256 * 1024;

Entry *entries = nullptr;

// Threads that wait for each other: those of a block, or of a warp.
struct Barrier {
    unsigned members = 0, arrived = 0, generation = 0;
    // What the lanes of a warp bring, for the last two generations: nobody is further behind.
    uint64_t brought[2][32];
};

// A context begins on a stack of its own; from then on jumps switch, which ask nothing of the system.
struct Fiber {
    ucontext_t begin;
    jmp_buf here;
    bool began = false;
    std::vector<unsigned char> stack;
    Thread thread;
    Barrier *waits = nullptr;
    unsigned generation = 0;
    bool ended = false;
};

std::vector<Fiber> fibers;
std::vector<Barrier> warps;
Barrier block;
std::vector<unsigned char> shared_memory;
jmp_buf scheduler;
Fiber *current = nullptr;
const Entry *running = nullptr;
const void *arguments = nullptr;

void wait(Barrier &barrier) {
    const unsigned generation = barrier.generation;
    if (++barrier.arrived == barrier.members) {
        barrier.arrived = 0;
        barrier.generation++;
        return;
    }
    current->waits = &barrier;
    current->generation = generation;
    if (!_setjmp(current->here)) _longjmp(scheduler, 1);
    current->waits = nullptr;
}

void body() {
    running->call(*running, arguments);
    current->ended = true;
    _longjmp(scheduler, 1);
}

// Runs the current fiber until it waits or ends.
void go() {
    if (_setjmp(scheduler)) return;
    if (current->began) _longjmp(current->here, 1);
    current->began = true;
    setcontext(&current->begin);
}

bool stands(const Fiber &fiber) { return fiber.waits && fiber.waits->generation == fiber.generation; }

void prepare(Fiber &fiber) {
    fiber.stack.resize(STACK);
    getcontext(&fiber.begin);
    fiber.begin.uc_stack.ss_sp = fiber.stack.data();
    fiber.begin.uc_stack.ss_size = fiber.stack.size();
    fiber.begin.uc_link = nullptr;
    makecontext(&fiber.begin, body, 0);
}

// Runs the threads of one block to their end. False if some wait for ever.
bool run_block(uint64_t &noise) {
    size_t left = fibers.size();
    std::vector<Fiber *> order;
    for (Fiber &fiber : fibers) order.push_back(&fiber);
    // Some warps rest while others run ahead, until those that run all wait.
    for (bool moved = true; left > 0;) {
        const uint64_t resting = moved ? noise >> 32 : 0;
        const bool all_run = !moved;
        moved = false;
        for (size_t i = order.size(); i > 1; i--) {
            noise = noise * 6364136223846793005u + 1442695040888963407u;
            std::swap(order[i - 1], order[(noise >> 33) % i]);
        }
        for (Fiber *fiber : order) {
            if (fiber->ended || stands(*fiber) || resting >> (fiber->thread.thread.x / 32) & 1) continue;
            current = fiber;
            go();
            moved = true;
            left -= fiber->ended;
        }
        if (!moved && all_run) return false;
    }
    return true;
}
}  // namespace

void Entry::add() {
    next = entries;
    entries = this;
}

const Thread &thread() { return current->thread; }
unsigned char *shared() { return shared_memory.data(); }
void sync_block() { wait(block); }

const uint64_t *gather(uint64_t mine) {
    Barrier &warp = warps[current->thread.thread.x / 32];
    uint64_t *brought = warp.brought[warp.generation % 2];
    brought[current->thread.thread.x % 32] = mine;
    wait(warp);
    return brought;
}

uint64_t exchange(uint64_t mine, unsigned lane) { return gather(mine)[lane]; }
}  // namespace emulator

using namespace emulator;

// 0: done; 1: no such kernel; 2: threads wait for others that have ended.
extern "C" int headwise_emulate(const char *name, const unsigned *grid, unsigned threads, size_t shared_bytes, const void *params, uint64_t seed) {
    running = entries;
    while (running && std::string(running->name) != name) running = running->next;
    if (!running) return 1;
    arguments = params;
    fibers.resize(threads);
    shared_memory.resize(shared_bytes);
    uint64_t noise = seed;
    for (unsigned z = 0; z < grid[2]; z++)
        for (unsigned y = 0; y < grid[1]; y++)
            for (unsigned x = 0; x < grid[0]; x++) {
                std::fill(shared_memory.begin(), shared_memory.end(), 0xff);
                block = Barrier();
                block.members = threads;
                warps.assign((threads + 31) / 32, Barrier());
                for (unsigned i = 0; i < threads; i++) {
                    Fiber &fiber = fibers[i];
                    warps[i / 32].members++;
                    fiber.thread = {{i, 0, 0}, {x, y, z}, {threads, 1, 1}, {grid[0], grid[1], grid[2]}};
                    fiber.ended = fiber.began = false;
                    fiber.waits = nullptr;
                    prepare(fiber);
                }
                if (!run_block(noise)) return 2;
            }
    return 0;
}
